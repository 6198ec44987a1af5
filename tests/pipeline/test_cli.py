"""What the command line makes of its arguments, and how it refuses them: before anything heavy is loaded."""

import pytest
from click.testing import CliRunner

from pipeline import cli


def invoke(*arguments):
    return CliRunner().invoke(cli.main, ["run", *arguments])


@pytest.fixture
def called(monkeypatch):
    """The arguments of the run that would have started."""
    calls = []
    monkeypatch.setattr(cli, "_run", lambda *arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "pretrain.temperature=0"], ["pretrain.temperature", "0", "greater than 0"]),
        (["--set", "fractions=[0]"], ["fractions.0", "greater than 0"]),
        (["--set", "pretrain.epoch=3"], ["pretrain.epoch", "no such field"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--unlabeled", "photos"], ["data.labeled must be given"]),
    ],
)
def test_wrong_setting_ends_with_code_2_a_line_and_nothing_made(tmp_path, called, arguments, words):
    done = invoke("--output", str(tmp_path / "run"), *arguments)
    assert done.exit_code == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.output
    assert called == []
    assert not (tmp_path / "run").exists()


def test_output_that_cannot_be_a_folder_ends_with_code_2_and_its_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = invoke("--output", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert f"output = {str(tmp_path / 'file')!r}: cannot be written" in done.stderr


@pytest.mark.parametrize("path", ["my photos", "it's mine", "12", "null", "a: b", "2024-01-31", "#1"])
def test_path_is_taken_as_it_is_written(called, path):
    assert invoke("--unlabeled", path, "--labeled", path, "--test", path, "--output", path).exit_code == 0
    [(config, from_node, to_node)] = called
    assert {config.data.unlabeled, config.data.labeled, config.data.test, config.output} == {path}
    assert (from_node, to_node) == (None, None)


def test_setting_given_twice_takes_the_later_and_arguments_come_before_settings(called):
    invoke("--output", "one", "--set", "seed=1", "--set", "seed=2", "--set", "output=two", "--from", "A", "--to", "B")
    [(config, from_node, to_node)] = called
    assert (config.seed, config.output, from_node, to_node) == (2, "two", "A", "B")


def test_help_names_what_make_takes():
    shown = CliRunner().invoke(cli.main, ["run", "--help"]).output
    for option in ("--unlabeled", "--labeled", "--test", "--output", "--config", "--set", "--from", "--to"):
        assert option in shown


def test_list_of_fields_names_each_with_its_default():
    shown = CliRunner().invoke(cli.main, ["config"]).output
    assert "pretrain.temperature = 0.2" in shown
