"""The two commands of the README on machines that lack something: what make would do, without doing it."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = ROOT / ".tools" / "bin" / "pip"
MAKE, BASH = (shutil.which(tool) for tool in ("make", "bash"))


def script(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    path.chmod(0o755)


def machine(clone, name="Linux x86_64", *, glibc="2.36"):
    """The platform, by what the programs say that are asked for it."""
    script(clone / "bin" / "uname", f"echo {name}")
    script(clone / "bin" / "getconf", f"echo glibc {glibc}" if glibc else "exit 1")


def python(clone, version):
    """A Python of that version on the PATH, as far as it is asked; its path."""
    path = clone / "bin" / f"python{version}"
    script(path, f'[ "$3" = {version} ] && echo {path}')
    return path


@pytest.fixture
def clone(tmp_path):
    """The files that make looks at, on a machine of Debian 12's age whose PATH holds next to nothing."""
    for name in ("Makefile", "pyproject.toml", "uv.lock", "infra/stack.sh", "infra/docker/uv.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    machine(tmp_path)
    for tool in ("ls", "grep", "sed", "expand"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def make(clone, *arguments, **environment):
    environment |= {"PATH": str(clone / "bin"), "PYENV_ROOT": str(clone / "pyenv")}
    return subprocess.run(
        [MAKE, "--no-print-directory", *arguments],
        cwd=clone, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_no_python_310_is_said_in_one_line_before_anything_is_done(clone):
    script(clone / "bin" / "python3.10", "echo 'pyenv: version not installed' >&2; exit 127")
    done = make(clone, "local-run")
    assert done.returncode != 0
    assert re.fullmatch(r"Python 3\.10 is needed .*'pyenv install 3\.10'.*", done.stdout.strip())
    assert not (clone / ".tools").exists() and not (clone / ".venv").exists()


def test_python_310_of_pyenv_is_found_behind_a_shim_that_does_not_start(clone):
    script(clone / "bin" / "python3.10", "exit 127")
    script(
        clone / "pyenv" / "versions" / "3.10.13" / "bin" / "python3.10", '[ "$3" = 3.10 ] && echo /real/python3.10'
    )
    assert '--python "/real/python3.10"' in make(clone, "-n", "environment").stdout


def test_audit_finds_the_environments_python_or_where_there_is_none_one_that_is_here_and_fetches_none(clone):
    """Of a uv that is there, as make calls it: the first Python on its PATH."""
    script(clone / ".tools" / "bin" / "uv", 'echo "$UV_PYTHON_DOWNLOADS ${PATH%%:*} $1" >> asked')
    ours = clone / "pyenv" / "versions" / "3.10.13" / "bin" / "python3.10"
    script(ours, f'[ "$3" = 3.10 ] && echo {ours}')
    make(clone, "audit")
    script(clone / ".venv" / "bin" / "python", "exit 1")
    make(clone, "audit")
    assert (clone / "asked").read_text().splitlines() == [
        f"never {folder}/ {command}"
        for folder in (ours.parent, clone / ".venv" / "bin")
        for command in ("export", "audit")
    ]


def test_audit_without_any_python_says_so_before_anything_is_done(clone):
    script(clone / ".tools" / "bin" / "uv", "echo asked >> asked")
    done = make(clone, "audit")
    assert done.returncode != 0 and "Python 3.10 is needed" in done.stdout
    assert not (clone / "asked").exists()


def test_other_python_that_calls_itself_310_is_passed_over(clone):
    script(clone / "bin" / "python3.10", f'exec {sys.executable} "${{@:1:2}}" 3.9')
    done = make(clone, "environment")
    assert done.returncode != 0 and "Python 3.10 is needed" in done.stdout


ALL = ("3.10", "3.11", "3.12", "3.13")
APPLE, INTEL_MAC = "Darwin arm64", "Darwin x86_64"


@pytest.mark.parametrize(
    ("name", "glibc", "pythons", "asked", "taken", "why"),
    [
        ("Linux x86_64", "2.28", ALL, "", ("1.16", "3.10"), "this machine has 2.28"),
        ("Linux x86_64", "2.36", ALL, "", ("1.16", "3.10"), "needs glibc 2.39 or later and this machine has 2.36"),
        ("Linux x86_64", "2.38", ALL, "", ("1.16", "3.10"), "this machine has 2.38"),
        ("Linux x86_64", "2.39", ALL, "", ("1.21", "3.13"), "the newer of the two stacks"),
        ("Linux x86_64", "2.38.9000", ALL, "", ("1.16", "3.10"), "this machine has 2.38.9000"),
        ("Linux x86_64", "2.39.9000", ALL, "", ("1.21", "3.13"), "the newer of the two stacks"),
        ("Linux x86_64", "2.41", ("3.10", "3.11"), "", ("1.21", "3.11"), "the newer of the two stacks"),
        ("Linux x86_64", "2.41", ("3.10",), "", ("1.16", "3.10"), "no Python 3.11, 3.12 or 3.13 is here"),
        ("Linux x86_64", "2.41", ALL, "1.16", ("1.16", "3.10"), "the older of the two stacks"),
        (APPLE, "", ALL, "", ("1.21", "3.13"), "the newer of the two stacks"),
        (INTEL_MAC, "", ALL, "", ("1.16", "3.10"), "for Macs on arm64, and this is Darwin x86_64"),
    ],
)  # fmt: skip
def test_newer_stack_that_the_machine_can_run_is_taken_and_said(clone, name, glibc, pythons, asked, taken, why):
    machine(clone, name, glibc=glibc)
    paths = {version: python(clone, version) for version in pythons}
    planned = make(clone, "-n", "environment", f"STACK={asked}").stdout
    stack, version = taken
    assert f'sync --quiet --locked --extra pipeline --python "{paths[version]}"' in planned
    assert f"installing the locked environment of TFX {stack} " in planned and why in planned


@pytest.mark.parametrize(
    ("name", "glibc", "pythons", "asked", "said"),
    [
        ("Linux x86_64", "2.36", ALL, "1.21", r"TFX 1\.21 needs glibc 2\.39 or .* has 2\.36; 'make test-next' .*"),
        ("Linux x86_64", "2.35", ("3.12",), "", r"Python 3\.10 is needed .*, and TFX 1\.21 needs .* has 2\.35\).*"),
        (INTEL_MAC, "", ("3.12",), "", r"Python 3\.10 is needed .*, and TFX 1\.21 has .* is Darwin x86_64\).*"),
        ("Linux x86_64", "", ALL, "", r"TFX 1\.21 needs glibc .* without; TFX 1\.16 needs glibc 2\.28 .* without"),
        ("Linux x86_64", "2.27", ALL, "", r"TFX 1\.21 .*; TFX 1\.16 needs glibc 2\.28 or later .* has 2\.27"),
        ("Linux x86_64", "2.41", ("3.10",), "1.21", r"Python 3\.11, .* needed .*'pyenv install 3\.13'.*"),
        ("Linux x86_64", "2.41", ("3.11",), "1.16", r"Python 3\.10 is needed \(TFX 1\.16 runs on no newer one\).*"),
        ("Linux x86_64", "2.41", (), "", r"Python 3\.11, 3\.12 or 3\.13 is needed .*"),
        ("Linux x86_64", "2.41", ALL, "1.17", r"STACK is '1\.17', and there are 1\.16 and 1\.21"),
        ("Linux aarch64", "2.41", ALL, "", r"TFX 1\.21 has packages for .*; TFX 1\.16 has packages for .*"),
        ("Linux aarch64", "2.41", ALL, "1.21", r"TFX 1\.21 has packages for .*, and this is Linux aarch64"),
        (APPLE, "", ALL, "1.16", r"TFX 1\.16 has packages for .* Macs on x86_64, and this is Darwin arm64"),
    ],
)  # fmt: skip
def test_stack_that_cannot_be_is_refused_in_one_line_before_anything_is_done(
    clone, name, glibc, pythons, asked, said
):
    machine(clone, name, glibc=glibc)
    for version in pythons:
        python(clone, version)
    done = make(clone, "local-run", f"STACK={asked}")
    assert done.returncode != 0 and re.fullmatch(said, done.stdout.strip())
    assert not (clone / ".tools").exists() and not (clone / ".venv").exists()


def test_other_stack_is_installed_when_it_is_asked_for_and_then_stays(clone):
    machine(clone, glibc="2.41")
    older = python(clone, "3.10")
    python(clone, "3.13")
    installed(clone)
    (clone / ".venv" / ".ready-1.21").touch()
    assert "sync" not in make(clone, "-n", "local-run", "STACK=1.21").stdout
    assert f'--python "{older}"' in make(clone, "-n", "local-run", "STACK=1.16").stdout

    (clone / ".venv" / ".ready-1.21").rename(clone / ".venv" / ".ready-1.16")
    assert "sync" not in make(clone, "-n", "local-run").stdout
    os.utime(clone / ".venv" / ".ready", ns=(1, 1))
    assert f'--python "{older}"' in make(clone, "-n", "local-run").stdout


@pytest.mark.parametrize(("glibc", "version"), [("2.36", "3.10"), ("2.41", "3.12")])
def test_headers_of_the_chosen_python_are_named_where_the_installation_fails(clone, glibc, version):
    machine(clone, glibc=glibc)
    python(clone, version)
    script(clone / ".tools" / "bin" / "uv", "exit 1")
    done = make(clone, "environment")
    assert done.returncode != 0 and f"'apt-get install g++ python{version}-dev'" in done.stdout


def test_stacks_are_compared_only_where_the_older_one_is_installed(clone):
    installed(clone)
    (clone / ".venv" / ".ready-1.21").touch()
    done = make(clone, "test-stacks")
    assert done.returncode != 0
    assert re.fullmatch(r"TFX 1\.16 has to be installed here .*'make environment STACK=1\.16'.*", done.stdout.strip())
    (clone / ".venv" / ".ready-1.21").rename(clone / ".venv" / ".ready-1.16")
    assert "has to be installed" not in make(clone, "test-stacks").stdout


def installed(clone):
    """uv and an environment whose Python writes down what it is asked."""
    for name in (".tools/bin/uv", ".venv/.ready"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    script(clone / ".venv" / "bin" / "python", """printf '%s\\0' "$@" > asked""")


def asked(clone, *arguments):
    """What the environment's Python gets to see of make's arguments."""
    done = make(clone, *arguments)
    assert done.returncode == 0, done.stderr
    return (clone / "asked").read_text().removesuffix("\0").split("\0")


def test_installed_environment_is_neither_installed_again_nor_looked_for(clone):
    installed(clone)
    planned = make(clone, "-n", "local-run")
    assert planned.returncode == 0
    assert planned.stdout.split() == [".venv/bin/python", "-m", "pipeline", "run"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "uv.lock"])
def test_changed_dependencies_are_installed_again(clone, changed):
    installed(clone)
    os.utime(clone / ".venv" / ".ready", ns=(1, 1))
    os.utime(clone / changed, ns=(10**9, 10**9))
    os.utime(clone / ({"pyproject.toml", "uv.lock"} - {changed}).pop(), ns=(0, 0))
    assert "sync --quiet --locked --extra pipeline" in make(clone, "-n", "local-run").stdout


def test_arguments_reach_the_command_line_as_they_are_written(clone):
    installed(clone)
    given = ["UNLABELED=my photos", "LABELED=l", "TEST=t", "OUTPUT=o", "CONFIG=c.yaml", "FROM=Push", "TO=Report"]
    assert asked(clone, "local-run", *given, "SET=seed=1 fractions=[0.5,1]") == [
        "-m", "pipeline", "run", "--unlabeled", "my photos", "--labeled", "l", "--test", "t", "--config", "c.yaml",
        "--set", "seed=1", "--set", "fractions=[0.5,1]", "--output", "o", "--from", "Push", "--to", "Report",
    ]  # fmt: skip


def wheel_of_uv(folder, version):
    """A package of that name and version, with another content than the real one."""
    name = f"uv-{version}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.data/scripts/uv", "#!/bin/bash\n")
        wheel.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return hashlib.sha256(Path(wheel.filename).read_bytes()).hexdigest()


@pytest.mark.skipif(not PIP.exists(), reason="uv was not installed by make, which leaves a pip beside it")
def test_uv_is_installed_only_if_it_is_the_one_whose_hash_is_known(clone):
    """By make's own pip, which here installs into the clone's folder; making an environment would take seconds."""
    script(clone / "bin" / "python3", "exit 0")
    script(clone / ".tools" / "bin" / "pip", f'exec {PIP} "$@" --target "$PWD/uv"')
    python(clone, "3.10")
    known = clone / "infra" / "docker" / "uv.txt"
    planted = wheel_of_uv(clone, re.search(r"^uv==(\S+)", known.read_text(), re.MULTILINE)[1])
    of_no_index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone)}
    done = make(clone, ".tools/bin/uv", **of_no_index)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (clone / "uv" / "bin" / "uv").exists()

    known.write_text(re.sub(r"(?<=sha256:)\w+", planted, known.read_text(), count=1))
    assert make(clone, ".tools/bin/uv", **of_no_index).returncode == 0
    assert (clone / "uv" / "bin" / "uv").exists()


HOSTILE = [
    "`touch b`", "$(touch b)", "$(shell touch b)", "$$HOME ${HOME} $HOME", "it's", 'a "b', "; touch b #", "a\\",
    "\\n", "one\ntwo", "a, b) c", "%*?~", "🐈 é",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_an_argument_is_read_by_make_or_the_shell(clone, text):
    installed(clone)
    before = set(clone.iterdir())
    setting = f"a={''.join(text.split())}"
    assert asked(clone, "local-run", f"UNLABELED={text}", f"SET={setting} seed=1") == [
        "-m", "pipeline", "run", "--unlabeled", text, "--set", setting, "--set", "seed=1",
    ]  # fmt: skip
    assert set(clone.iterdir()) - before == {clone / "asked"}


def test_stack_that_is_a_command_is_refused_and_not_run(clone):
    done = make(clone, "local-run", "STACK=`touch${IFS}b`$(shell touch b)'")
    assert done.returncode != 0 and "there are 1.16 and 1.21" in done.stdout
    assert not (clone / "b").exists()


def test_every_variable_that_a_target_reads_is_taken_as_text():
    """Of those that the Makefile sets nowhere itself, and so has from its user."""
    text = (ROOT / "Makefile").read_text()
    [given] = re.findall(r"^GIVEN := ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    of_its_own = set(re.findall(r"^(?:define )?(\w+)(?: [:]?=|$)", text, re.MULTILINE))
    read = set(re.findall(r"\$\((?:call (?:option|options|flag),[\w-]+,)?([A-Z][A-Z_0-9]+)\)", text))
    assert read - of_its_own - {"MAKEFILE_LIST"} == set(given.replace("\\", "").split())


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["retrain", "CONFIG=c.yaml", "OUTPUT=o", "SET=retrain.store=s", "TO=Push"],
         "retrain --config c.yaml --set retrain.store=s --output o --to Push"),
        (["submit", "CONFIG=c.yaml", "SET=seed=1", "WAIT=1", "RUN_KEY=monday"],
         "submit --config c.yaml --set seed=1 --run-key monday --wait"),
        (["submit", "CONFIG=c.yaml", "NO_PREFLIGHT=1"], "submit --config c.yaml --no-preflight"),
        (["deploy", "CONFIG=c.yaml", "SET=seed=1", "NO_PREFLIGHT=1"],
         "deploy --config c.yaml --set seed=1 --no-preflight"),
        (["preflight", "CONFIG=c.yaml", "SET=seed=1", "OFFLINE=1"],
         "preflight --config c.yaml --set seed=1 --offline"),
        (["rehearse", "PARALLEL=2", "IMAGE=a=/a b=/b"], "rehearse --parallel 2 --image a=/a --image b=/b"),
        (["submit", "RUNNER=kubeflow", "HOST=http://h"], "submit --runner kubeflow --host http://h"),
        (["schedule", "CRON=0 3 * * 1", "TIMEZONE=Europe/Berlin", "NAME=weekly"],
         "schedule --cron '0 3 * * 1' --timezone Europe/Berlin --name weekly"),
        (["watch", "CONFIG=c.yaml", "CRON=0 3 * * 1", "TIMEZONE=Europe/Berlin", "FILES=1"],
         "watch --config c.yaml --cron '0 3 * * 1' --timezone Europe/Berlin --files"),
        (["history", "OUTPUT=runs/weekly"], "history --output runs/weekly"),
        (["unschedule", "CONFIG=c.yaml", "NAME=weekly"], "unschedule --config c.yaml --name weekly"),
        (["schedules", "CONFIG=c.yaml"], "schedules --config c.yaml"),
        (["promote", "CONFIG=c.yaml", "VERSION=3"], "promote --config c.yaml --version 3"),
        (["promote", "OUTPUT=my runs", "VERSION=3"], "promote --pushed 'my runs/pushed' --version 3"),
        (["rollback", "CONFIG=c.yaml", "SET=seed=1"], "rollback --config c.yaml --set seed=1"),
        (["embeddings", "CONFIG=c.yaml", "IMAGES=gs://b/my photos", "OUTPUT=gs://b/h", "VERSION=3", "WAIT=1"],
         "embeddings --config c.yaml --images 'gs://b/my photos' --output gs://b/h --version 3 --wait"),
    ],
)  # fmt: skip
def test_targets_hand_on_what_they_are_given(clone, given, command):
    installed(clone)
    assert asked(clone, *given) == ["-m", "pipeline", *shlex.split(command)]


def test_no_python_for_lightly_is_said_before_anything_is_installed(clone):
    installed(clone)
    (clone / "tests" / "benchmarks").mkdir(parents=True)
    (clone / "tests" / "benchmarks" / "requirements.txt").touch()
    done = make(clone, "bench")
    assert done.returncode != 0
    assert re.fullmatch(r"Python 3\.11, 3\.12 or 3\.13 is needed .*'pyenv install 3\.12'.*", done.stdout.strip())
    assert not (clone / ".venv-bench").exists()


def test_every_target_tells_what_it_is_for(clone):
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (clone / "Makefile").read_text(), re.MULTILINE))
    told = dict(re.findall(r"^  make (\S+) +(\S.*)$", make(clone).stdout, re.MULTILINE))
    assert {"local-run", "test"} <= targets == set(told)


def test_browser_that_cannot_be_installed_does_not_stop_the_tests(tmp_path):
    script(tmp_path / "id", "echo 0")
    script(tmp_path / "apt-get", "echo 'E: no network' >&2; exit 100")
    done = subprocess.run(
        [BASH, str(ROOT / "tests" / "install_chromium.sh")],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "will be skipped" in done.stdout
