"""`promote` and `rollback` of a folder of versions, as they are called."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.push.versions import VersionedDirectory
from pipeline import cli


@pytest.fixture
def output(tmp_path, monkeypatch):
    """A run's output with two versions, the second of which is the champion."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    directory = VersionedDirectory(str(tmp_path / "runs" / "local" / "pushed"))
    model.mkdir()
    with directory.exclusive():
        for content in "ab":
            (model / "saved_model.pb").write_text(content)
            directory.crown(directory.add(str(model), model_fingerprint=content))
            directory.history()
    return tmp_path / "runs" / "local"


def invoke(*arguments):
    return CliRunner().invoke(cli.main, arguments)


def test_folder_that_cannot_be_written_is_said_in_words(output, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "CHAMPION")

    monkeypatch.setattr(VersionedDirectory, "crown", full)
    done = invoke("rollback")
    assert (done.exit_code, done.stderr) == (1, "it broke off: [Errno 28] No space left on device: 'CHAMPION'\n")


def test_rollback_without_a_cloud_is_of_the_default_output(output):
    done = invoke("rollback")
    folder = os.path.join("runs/local", "pushed")
    assert done.stdout == f"version 1 is the champion of {folder}; the one before: version 2\n", done.stderr
    assert (output / "pushed" / "CHAMPION").read_text() == "1\n"


def test_named_folder_is_meant_even_where_the_configuration_names_a_registry(output):
    settings = ["--set", "vertex.project=my-project", "--set", "vertex.registry.model=m"]
    done = invoke("promote", "--pushed", str(output / "pushed"), "--version", "1", *settings)
    assert done.exit_code == 0, done.stderr
    assert (output / "pushed" / "CHAMPION").read_text() == "1\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["rollback", "--pushed", "nowhere"], 1, "There is no pushed model in"),
        (["promote", "--version", "9"], 1, "has 1, 2, and no 9"),
        (["promote", "--version", "candidate"], 2, "give a number"),
        (["promote"], 2, "give a number"),
    ],
)
def test_refusal_has_a_line_and_a_code_and_moves_nothing(output, arguments, code, words):
    done = invoke(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in " ".join(done.stderr.split())
    assert (output / "pushed" / "CHAMPION").read_text() == "2\n"
    assert not Path("nowhere").exists()


def test_promoting_the_champion_says_that_it_was(output):
    done = invoke("promote", "--version", "2")
    assert done.stdout == f"version 2 was the champion of {os.path.join('runs/local', 'pushed')} already\n"
