"""Every command of `python -m pipeline`, and what its mistakes end with: a code, a line that helps, no traceback."""

import io
import signal
import sys

import golden_job
import pytest
from click.testing import CliRunner
from rich.console import Console

from components.span_ingest.store import DamagedError
from pipeline import cli, cli_cloud, outlook, preflight
from pipeline.history.records import Records
from pipeline.runners import compiled, console, local
from pipeline.runners.results import NodeFailedError, NotPushedError
from pipeline.runners.run_folder import RunFolderError
from pipeline.runners.vertex_calls import ServiceError
from trainer.config import ConfigError

EXAMPLE = ["--config", str(golden_job.EXAMPLE)]
OF_ONES_OWN = ["--unlabeled", "{words}", "--labeled", "{words}"]
CRON = ["--cron", "0 3 * * 1"]
# What each command cannot do without.
NEEDED = {
    **dict.fromkeys(
        ["run", "retrain", "rehearse", "history", "watch", "compile", "preflight", "submit", "deploy"], ()
    ),
    **dict.fromkeys(["unschedule", "schedules", "promote", "rollback", "config"], ()),
    "schedule": CRON,
    "embeddings": ["--images", "gs://b/images", "--output", "gs://b/h"],
}
CONFIGURED = sorted(set(NEEDED) - {"config"})
OF_THE_CLOUD = sorted(command.name for command in cli_cloud.COMMANDS)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """A command in this process; what it says to people once its noise goes to a log is part of the answer."""
    told = io.StringIO()
    terminal = console.Terminal(*(Console(file=told, width=300) for _ in range(2)))
    monkeypatch.setattr(console, "divert_noise", lambda _log: terminal)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def invoke(*arguments):
        done = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        words = " ".join((done.output + told.getvalue()).split())
        assert isinstance(done.exception, SystemExit | None), (arguments, words, done.exception)
        assert "Traceback" not in words
        return done.exit_code, words

    yield invoke
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def places(tmp_path):
    """Paths by what is there."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.png").write_text("no image")
    (tmp_path / "store" / "spans" / "000001").mkdir(parents=True)
    (tmp_path / "store" / "spans" / "000001" / "SPAN.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("pretrain: [")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list.yaml").write_text("- seed")
    names = {name: tmp_path / name for name in ("file", "empty", "words", "store", "new", "nowhere")}
    return {**names, "python": sys.executable}


def test_every_command_is_walked():
    assert set(cli.main.commands) == set(NEEDED)


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_help_is_no_mistake_and_an_unknown_option_is_one(invoke, command):
    assert invoke(command, "--help")[0] == 0
    code, words = invoke(command, *NEEDED[command], "--nonsense")
    assert (code, "No such option '--nonsense'" in words) == (2, True)


@pytest.mark.parametrize("command", CONFIGURED)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--set", "seed=x"], "seed = 'x': must be a valid integer"),
        (["--set", "nonsense=1"], "nonsense: there is no such field"),
        (["--set", "nonsense"], "write field=value"),
        (["--set", "seed=[1"], "is not YAML"),
        (["--config", "nowhere"], "No such file or directory"),
        (["--config", "empty"], "Is a directory"),
        (["--config", "broken.yaml"], "broken.yaml is not YAML"),
        (["--config", "bytes.yaml"], "bytes.yaml is not YAML"),
        (["--config", "list.yaml"], "must hold fields with values"),
    ],
)
def test_configuration_that_is_none_is_2_in_every_command(invoke, places, command, given, words):
    found = invoke(command, *NEEDED[command], *given)
    assert (found[0], words in found[1]) == (2, True), found


MISTAKES = [
    (["nonsense"], 2, "No such command 'nonsense'"),
    ([], 2, "Usage:"),
    *(
        (
            [command, "--output", "{file}/run", "--set", "retrain.store={empty}"],
            2,
            "/run': cannot be written: Not a dir",
        )
        for command in ("run", "rehearse", "retrain")
    ),
    *(
        (
            [command, "--output", "gs://b/runs", "--set", "retrain.store={empty}"],
            2,
            "on this machine leaves its results",
        )
        for command in ("run", "rehearse", "retrain", "watch")
    ),
    (["watch", "--output", "{file}", "--set", "retrain.store={empty}"], 2, "file': cannot be written: File exists"),
    (["history", "--output", "{file}"], 2, "there is no such folder"),
    (["history", "--output", "{nowhere}"], 2, "there is no such folder"),
    (["run", "--output", "{new}", "--unlabeled", "{nowhere}", "--labeled", "{words}"], 2, "nowhere does not exist"),
    (["run", "--output", "{new}", "--unlabeled", "{empty}", "--labeled", "{words}"], 2, "empty holds no files"),
    (["run", "--output", "{new}", "--unlabeled", "{words}"], 2, "data.labeled must be given"),
    (["run", "--output", "{new}", *OF_ONES_OWN, "--from", "Nonsense"], 2, "there is no node 'Nonsense'"),
    (
        ["run", "--output", "{new}", *OF_ONES_OWN, "--from", "Push", "--to", "Pretrain"],
        2,
        "nothing runs from Push to Pretrain",
    ),
    (
        ["run", "--output", "{new}", *OF_ONES_OWN, "--from", "Transform-labeled"],
        2,
        "needs the results of the nodes before it",
    ),
    (
        ["run", "--output", "{new}", *OF_ONES_OWN, "--set", "beam.runner=dataflow"],
        2,
        "a run on this machine needs local",
    ),
    (["rehearse", "--parallel", "0"], 2, "0 is not in the range"),
    (["rehearse", "--image", "simclr"], 2, "must be NAME=PYTHON"),
    (["rehearse", "--output", "{new}", "--image", "nonsense={python}"], 2, "no container has it"),
    (["rehearse", "--output", "{new}", "--set", "data.labeled={nowhere}"], 2, "nowhere does not exist"),
    (["retrain"], 2, "retrain.store = null: give a folder"),
    (["retrain", "--output", "{new}", "--set", "retrain.store={file}"], 2, "is no folder"),
    (["retrain", "--output", "{new}", "--set", "retrain.store=s3://b/c"], 2, "retrain.store"),
    (["retrain", "--output", "{new}", "--set", "retrain.store={store}"], 3, "SPAN.json"),
    (
        [
            "retrain",
            "--output",
            "{new}",
            "--unlabeled",
            "{nowhere}",
            "--labeled",
            "{words}",
            "--set",
            "retrain.store=s",
        ],
        2,
        "nowhere does not exist",
    ),
    (["watch"], 2, "retrain.store = null: give a folder"),
    (["watch", "--set", "retrain.store=s", "--cron", "nonsense"], 2, "must have five fields"),
    (["watch", "--set", "retrain.store=s", *CRON, "--timezone", "No/Where"], 2, "there is none of that name"),
    (["compile"], 2, "vertex.project = null: must be given"),
    (["compile", *EXAMPLE, "--output", "{file}"], 2, "file': cannot be written: File exists"),
    (["compile", *EXAMPLE, "--output", "/proc"], 2, "output = '/proc': cannot be written"),
    (["preflight", "--offline"], 2, "must be on gs://"),
    (["submit"], 2, "nothing was sent: mend the errors"),
    (["submit", "--runner", "kubeflow"], 2, "--runner kubeflow takes --host"),
    (["submit", "--host", "http://localhost"], 2, "vertex takes no --host"),
    (["deploy"], 2, "nothing was sent: mend the errors"),
    (["schedule"], 2, "Missing option '--cron'"),
    (["schedule", *CRON], 2, "nothing was sent: mend the errors"),
    (["schedule", *EXAMPLE, "--cron", "0 25 * * *"], 2, "cron = '0 25 * * *': Bad hour"),
    (["schedule", *EXAMPLE, *CRON, "--timezone", "Mars"], 2, "timezone = 'Mars': there is none of that name"),
    (["schedule", *EXAMPLE, "--no-preflight", "--cron", "nonsense"], 2, "must be five fields"),
    (["unschedule"], 2, "vertex.project = null: must be given"),
    (["schedules"], 2, "vertex.project = null: must be given"),
    (["promote"], 2, "--version is missing: versions in a folder are numbered"),
    (["promote", "--version", "candidate"], 2, "give a number"),
    *(
        ([*command, "--pushed", place], 1, "There is no pushed model in")
        for command in (["promote", "--version", "1"], ["rollback"])
        for place in ("{nowhere}", "{empty}", "{file}")
    ),
    (["embeddings"], 2, "Missing option '--images'"),
    (["embeddings", *NEEDED["embeddings"]], 2, "vertex.project = null: must be given"),
    (["embeddings", *EXAMPLE, "--images", "here", "--output", "gs://b/h"], 2, "reads and writes Cloud Storage only"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistake_has_its_code_and_a_line(invoke, places, arguments, code, words):
    found = invoke(*[argument.format(**places) for argument in arguments])
    assert (found[0], words in found[1]) == (code, True), found
    assert not places["nowhere"].exists()


def raising(error):
    def call(*_, **__):
        raise error

    return call


ENDS = [
    (None, 0, ""),
    (ConfigError("no such thing"), 2, "configuration: no such thing"),
    (NodeFailedError("AnomalyGate-labeled", "a zebra", broke_a_rule=True), 3, "AnomalyGate-labeled failed: a zebra"),
    (NodeFailedError("Drift", "upside down", broke_a_rule=True), 3, "Drift failed: upside down"),
    (NodeFailedError("SpanIngest", "rejects", broke_a_rule=True), 3, "SpanIngest failed: rejects"),
    (NodeFailedError("Pretrain", "the loss is nan", broke_a_rule=False), 1, "the loss is nan"),
    (DamagedError("SPAN.json is cut short"), 3, "retrain.store: SPAN.json is cut short"),
    (NotPushedError("0.1 is under 0.2"), 4, "the model was not pushed: 0.1 is under 0.2"),
    (RunFolderError("another run is there"), 1, "nothing was begun: another run is there"),
    (OSError(28, "No space left on device"), 1, "No space left on device"),
    (MemoryError(), 1, "the run broke off"),
    (KeyError("a fault"), 1, "the traceback is in"),
    (KeyboardInterrupt(), 130, "interrupted: the next run goes on from here"),
]


@pytest.mark.parametrize("command", ["run", "retrain", "rehearse"])
@pytest.mark.parametrize(("error", "code", "words"), ENDS, ids=lambda value: type(value).__name__)
def test_run_that_ends_in_whatever_way_has_its_code_and_its_record(
    invoke, places, monkeypatch, command, error, code, words
):
    call = raising(error) if error else lambda *_, **__: None
    monkeypatch.setattr(local, "run", call)
    monkeypatch.setattr(compiled, "run", call)
    monkeypatch.setattr(preflight, "inspect", lambda _config: {})
    monkeypatch.setattr(outlook, "look", lambda _config: outlook.Outlook("x", None, 1, ()))
    found = invoke(command, "--output", places["new"], "--set", f"retrain.store={places['empty']}")
    assert (found[0], words in found[1]) == (code, True), found
    [record] = Records(str(places["new"])).read()[0]
    assert record.exit_code == code
    if isinstance(error, NodeFailedError):
        assert record.words == f"{error.node}: {error}"
    if isinstance(error, KeyboardInterrupt):
        assert (record.outcome, record.words) == ("interrupted", "Interrupted: the next run goes on from there.")


@pytest.mark.parametrize("command", OF_THE_CLOUD)
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("no such thing"), 2, "configuration: no such thing"),
        (ServiceError("Vertex AI answers 503"), 1, "Vertex AI answers 503"),
        (OSError(28, "No space left on device"), 1, "it broke off: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted: what was started in the cloud goes on there"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_command_of_the_cloud_that_is_broken_off_has_its_code(invoke, monkeypatch, command, error, code, words):
    monkeypatch.setattr(cli_cloud, "load_config", raising(error))
    found = invoke(command, *NEEDED[command])
    assert (found[0], words in found[1]) == (code, True), found


def test_history_that_cannot_be_written_is_said_with_1(invoke, places):
    (places["empty"] / "history.html").mkdir()
    code, words = invoke("history", "--output", places["empty"])
    assert (code, "it broke off: " in words and "Is a directory" in words) == (1, True), words
