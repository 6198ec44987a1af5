"""How a run that did not end well ends the program."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from components.span_ingest.store import DamagedError
from pipeline import cli
from pipeline.runners import compiled, results
from pipeline.runners.results import NodeFailedError, NotPushedError
from pipeline.runners.run_folder import RunFolderError
from trainer.config import ConfigError

LOG = Path("run.log")


def failed(node, *, broke_a_rule=True):
    return NodeFailedError(node, "no labels", broke_a_rule=broke_a_rule)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("no such field"), 2, "configuration: no such field"),
        (failed("ImageExampleGen-labeled"), 3, "ImageExampleGen-labeled failed: no labels"),
        (failed("AnomalyGate-unlabeled"), 3, "run.log"),
        (failed("LeakageGate"), 3, "LeakageGate failed"),
        (failed("ImageExampleGen-labeled", broke_a_rule=False), 1, "ImageExampleGen-labeled failed"),
        (failed("Pretrain"), 1, "Pretrain failed"),
        (NotPushedError("0.1 is under 0.2"), 4, "the model was not pushed: 0.1 is under 0.2"),
        (KeyboardInterrupt(), 130, "interrupted: the next run goes on from here"),
        (OSError("no space left"), 1, "the run broke off: no space left"),
        (RunFolderError("another run is there"), 1, "nothing was begun: another run is there"),
        (DamagedError("SPAN.json is not what was written"), 3, "retrain.store: SPAN.json is not what was written"),
    ],
)
def test_what_went_wrong_has_its_code_and_its_words(error, code, words):
    message, found = cli._told(error, LOG)
    assert (found, words in message) == (code, True)


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        ("its last lines:\nTraceback\nValueError: the manifest has no rows", True),
        ("its last lines:\nTraceback\ncomponents.drift.findings.DriftedError: The new images have drifted", True),
        ("its last lines:\ncomponents.span_ingest.store.DamagedError: SPAN.json is cut short", True),
        ("its last lines:\ncomponents.span_ingest.store.OtherError: SPAN.json is cut short", False),
        ("its last lines:\nOSError: [Errno 28] No space left on device", False),
        ("its last lines:\n  raised where no ValueError: was meant", False),
    ],
)
def test_rule_that_a_container_tells_of_is_found_in_its_log(words, is_one):
    assert (compiled._RULE_BROKEN.search(words) is not None) == is_one


@pytest.mark.parametrize(
    ("pushed", "decision", "refused"),
    [
        ("/pushed/1", {"reason": "the first"}, False),
        (None, {"reason": "0.1 is under 0.2"}, True),
        (None, None, False),  # a part of the run, without Push
    ],
)
def test_refused_model_is_published_as_such_and_told(tmp_path, pushed, decision, refused):
    artifact, output = tmp_path / "artifact", tmp_path / "output"
    for folder in (artifact, output):
        folder.mkdir()
    (artifact / "metrics.json").write_text(json.dumps({"rows": [], "pushed": pushed, "decision": decision}))
    (artifact / "report.html").write_text("report")
    record = results.RunRecord(str(output / "nodes.json"))

    def publish():
        results.publish(output, artifact, record, Console(file=io.StringIO()))

    if refused:
        with pytest.raises(NotPushedError, match=r"0\.1 is under 0\.2"):
            publish()
    else:
        publish()
    assert json.loads((output / "metrics.json").read_text())["pushed"] == pushed
    assert (output / "report.html").read_text() == "report"
