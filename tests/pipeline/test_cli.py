"""What the command line makes of its arguments, and how it refuses them: before anything heavy is loaded."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from components.span_ingest.store import Counts, Span, SpanStore
from pipeline import cli
from pipeline.history.records import Records


def invoke(*arguments, command="run"):
    return CliRunner().invoke(cli.main, [command, *arguments])


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
    beside = f"{path}-"
    assert invoke("--unlabeled", path, "--labeled", path, "--test", path, "--output", beside).exit_code == 0
    [(config, from_node, to_node)] = called
    assert {config.data.unlabeled, config.data.labeled, config.data.test, config.output[:-1]} == {path}
    assert (from_node, to_node) == (None, None)


def test_setting_given_twice_takes_the_later_and_arguments_come_before_settings(called):
    invoke("--output", "one", "--set", "seed=1", "--set", "seed=2", "--set", "output=two", "--from", "A", "--to", "B")
    [(config, from_node, to_node)] = called
    assert (config.seed, config.output, from_node, to_node) == (2, "two", "A", "B")


def test_retraining_takes_what_a_run_takes(called):
    arguments = ["--unlabeled", "u", "--labeled", "l", "--output", "o", "--set", "retrain.store=s", "--to", "Push"]
    assert invoke(*arguments, command="retrain").exit_code == 0
    [(config, from_node, to_node)] = called
    assert (config.data.unlabeled, config.retrain.store, config.output) == ("u", "s", "o")
    assert (from_node, to_node) == (None, "Push")


def test_retraining_without_a_store_ends_with_code_2_and_the_field(called):
    done = invoke(command="retrain")
    assert done.exit_code == 2
    assert "retrain.store = null: give a folder" in done.stderr
    assert called == []


def test_nothing_new_is_said_and_ends_well_before_tensorflow_is_loaded(tmp_path):
    """In a process of its own, which has loaded nothing yet."""
    source, store = tmp_path / "source", SpanStore(str(tmp_path / "store"))
    source.mkdir()
    (source / "a.png").write_bytes(b"no image, and known as that")
    state = (source / "a.png").stat()
    row = {"path": "a.png", "size": state.st_size, "version": str(state.st_mtime_ns), "outcome": "rejected"}
    attempt = store.begin(1)
    rows, checksum = store.write_rows(attempt, [row | {"reason": "not_an_image", "detail": "-"}])
    name = attempt.rpartition("/")[2]
    assert store.commit(
        Span(1, name, Counts(1, 0, 0, 1), (), rows, checksum, str(source), "2026-01-01T00:00:00+00:00")
    )
    program = (
        "import sys; from pipeline.cli import main\n"
        "try: main()\n"
        "finally: assert not {'tensorflow', 'tfx'} & set(sys.modules)"
    )
    given = ["--unlabeled", str(source), "--labeled", str(source), "--output", str(tmp_path / "run")]
    given += ["--set", f"retrain.store={store.folder.path}"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, "retrain", *given],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "note: there was no ledger: it was made from the files of 1 of 1 spans\nno new images: nothing to do\n"
    )
    [record] = Records(str(tmp_path / "run")).read()[0]
    assert (record.outcome, record.command, record.exit_code) == ("nothing new", "retrain", 0)
    assert "nothing new" in (tmp_path / "run" / "history.html").read_text()


def test_help_names_what_make_takes():
    shown = CliRunner().invoke(cli.main, ["run", "--help"]).output
    for option in ("--unlabeled", "--labeled", "--test", "--output", "--config", "--set", "--from", "--to"):
        assert option in shown


def test_list_of_fields_names_each_with_its_default():
    shown = CliRunner().invoke(cli.main, ["config"]).output
    assert "pretrain.temperature = 0.2" in shown
