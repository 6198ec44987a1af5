"""Terraform's files by Terraform itself, where it is: formatted, and valid beside a provider that is but a schema."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
PLUGIN = Path(__file__).with_name("provider_plugin.py")
PROGRAM = shutil.which("terraform", path=str(Path(sys.executable).parent)) or shutil.which("terraform")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="terraform isn't installed")


def run(*arguments, cwd, **environment):
    environment |= {"PATH": "/usr/bin:/bin", "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def validate(tmp_path):
    """Validates an environment of a copy, in which a file of a module may be changed."""
    plugin = tmp_path / "plugin" / "terraform-provider-google"
    plugin.parent.mkdir()
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PLUGIN}"\n')
    plugin.chmod(0o755)
    settings = tmp_path / "terraformrc"
    settings.write_text(
        f'provider_installation {{\n  dev_overrides {{ "hashicorp/google" = "{plugin.parent}" }}\n}}\n'
    )
    copy = shutil.copytree(TERRAFORM, tmp_path / "terraform")
    for versions in copy.rglob("versions.tf"):
        # An older Terraform is welcome here, and a backend would have to be asked for its state.
        text = re.sub(r"^ *required_version.*\n", "", versions.read_text(), flags=re.MULTILINE)
        versions.write_text(re.sub(r"^  backend .*?^  }\n", "", text, flags=re.MULTILINE | re.DOTALL))

    def validated(environment, file=None, old="", new=""):
        if file:
            text = (copy / "modules" / file).read_text()
            assert old in text
            (copy / "modules" / file).write_text(text.replace(old, new))
        folder = copy / "envs" / environment
        code, said = run("get", "-no-color", cwd=folder, HOME=str(tmp_path))
        assert code == 0, said
        # No certificates between Terraform and what it started itself on this machine.
        given = {"HOME": str(tmp_path), "TF_CLI_CONFIG_FILE": str(settings), "TF_DISABLE_PLUGIN_TLS": "1"}
        return run("validate", "-no-color", cwd=folder, **given)

    return validated


def test_files_are_formatted(tmp_path):
    code, said = run("fmt", "-check", "-recursive", str(TERRAFORM), cwd=tmp_path)
    assert (code, said) == (0, "")


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_environment_is_valid(validate, environment):
    code, said = validate(environment)
    assert code == 0 and "Success! The configuration is valid" in said, said


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("registry/main.tf", "immutable_tags", "imutable_tags", "Unsupported argument"),
        ("budget/main.tf", "tostring(var.amount)", "tostring(var.thresholds)", "Invalid function argument"),
    ],
)
def test_planted_fault_is_found(validate, file, old, new, error):
    code, said = validate("dev", file, old, new)
    assert code != 0 and f"Error: {error}" in said
