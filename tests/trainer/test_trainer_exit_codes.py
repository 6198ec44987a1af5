"""Every command of `python -m trainer`, and what its mistakes end with: a code, a line that helps, no traceback."""

import click.testing
import pytest
import tensorflow as tf
from PIL import Image

from trainer import cli, cli_command

MODEL, OUTPUT = ["--model", "nowhere"], ["--output", "new"]
# What each command cannot do without: of things that are not there.
NEEDED = {
    "config": [],
    "pretrain": ["--images", "nowhere", *OUTPUT],
    "probe": [*MODEL, "--labeled", "nowhere", "--test", "nowhere"],
    "finetune": ["--labeled", "nowhere", *OUTPUT],
    "distill": ["--teacher", "nowhere", "--images", "nowhere", *OUTPUT],
    "embed": [*MODEL, "--images", "nowhere", *OUTPUT],
    "export": [*MODEL, *OUTPUT],
    "published": ["--weights", "nowhere", *OUTPUT],
    "ablate": ["color", "--data", "nowhere", "--test", "nowhere", *OUTPUT],
}
WITH_INPUTS = sorted(set(NEEDED) - {"config"})


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """A command in a folder of mistakes."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "words"):
        (tmp_path / name).mkdir()
    (tmp_path / "words" / "a.png").write_text("no image")
    (tmp_path / "broken.yaml").write_text("pretrain: [")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")

    def invoke(*arguments):
        own = dict.fromkeys(["TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"])
        done = click.testing.CliRunner(env=own).invoke(cli.main, arguments)
        assert isinstance(done.exception, SystemExit | None), (arguments, done.exception)
        assert "Traceback" not in done.output and not (tmp_path / "new").exists()
        return done.exit_code, " ".join(done.output.split())

    return invoke


def test_every_command_is_walked():
    assert set(cli.main.commands) == set(NEEDED)


@pytest.mark.parametrize("command", sorted(NEEDED))
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--nonsense"], "No such option '--nonsense'"),
        (["--preset", "nonsense"], "'nonsense' is not one of"),
        (["--set", "seed=x"], "seed = 'x': must be a valid integer"),
        (["--set", "nonsense=1"], "nonsense: there is no such field"),
        (["--set", "nonsense"], "write field=value"),
        (["--config", "nowhere"], "No such file or directory"),
        (["--config", "empty"], "Is a directory"),
        (["--config", "broken.yaml"], "broken.yaml is not YAML"),
        (["--config", "bytes.yaml"], "bytes.yaml is not YAML"),
    ],
)
def test_usage_or_configuration_that_is_none_is_2_in_every_command(invoke, command, given, words):
    found = invoke(command, *NEEDED[command], *given)
    assert (found[0], words in found[1]) == (2, True), found


@pytest.mark.parametrize("command", WITH_INPUTS)
def test_what_is_missing_on_the_command_line_is_2(invoke, command):
    code, words = invoke(command)
    assert (code, "Missing" in words) == (2, True), words


@pytest.mark.parametrize("command", WITH_INPUTS)
@pytest.mark.parametrize("place", ["nowhere", "empty", "words"])
def test_input_that_is_not_there_or_holds_nothing_is_3_with_its_path(invoke, command, place):
    code, words = invoke(command, *[place if given == "nowhere" else given for given in NEEDED[command]])
    assert (code, place in words) == (3, True), words
    assert "{{" not in words and "[Op" not in words


def test_one_class_alone_is_3_with_its_name(invoke, tmp_path):
    (tmp_path / "labeled" / "cat").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "labeled" / "cat" / f"{number}.png")
    code, words = invoke("finetune", "--labeled", "labeled", *OUTPUT)
    assert (code, "one class folder only, 'cat'" in words) == (3, True), words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        ([], "Usage:"),
        (["ablate", "nonsense", *NEEDED["ablate"][1:]], "'nonsense' is no table: must be one of"),
        (["ablate", *NEEDED["ablate"], "--row", "nonsense"], "row 'nonsense': must be one of"),
        (["ablate", *NEEDED["ablate"], "--column", "nonsense"], "column 'nonsense': must be one of"),
        (["distill", *NEEDED["distill"], "--set", "distill.label_weight=0.5"], "labels count only with --labeled"),
        (["published", *NEEDED["published"], "--size", "large"], "is not a valid integer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_mistake_on_the_command_line_is_2(invoke, arguments, words):
    found = invoke(*arguments)
    assert (found[0], words in found[1]) == (2, True), found


@pytest.mark.parametrize("command", sorted(NEEDED))
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (FloatingPointError("the loss is nan"), 1, "the loss is nan"),
        (tf.errors.UnavailableError(None, None, "the bucket does not answer"), 1, "does not answer"),
        (ValueError("it is damaged"), 3, "it is damaged"),
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on from its last checkpoint"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_command_that_is_broken_off_has_its_code(invoke, monkeypatch, command, error, code, words):
    def broken_off(*_, **__):
        raise error

    monkeypatch.setattr(cli_command, "load", broken_off)
    found = invoke(command, *NEEDED[command])
    assert (found[0], words in found[1]) == (code, True), found
