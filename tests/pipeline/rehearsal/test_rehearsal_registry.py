"""VertexPusher's container, rehearsed against a Vertex AI on loopback that loses the answer to its upload."""

import json
from pathlib import Path

import fake_vertex_tunnel
import golden_registration
import pushed_runs
import pytest
import rehearsed_jobs
from tfx.dsl.components.common.importer import Importer
from tfx.types import standard_artifacts

from components.artifacts import PipelineReport
from pipeline.runners.registrar import vertex_registrar
from pipeline.runners.rehearsal.run import rehearse

MODEL = "projects/my-project/locations/us-central1/models/simclr"


def _retried(tasks) -> None:
    tasks["VertexPusher"]["retryPolicy"] = {"maxRetryCount": 2, "backoffDuration": "60s"}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The fake after a run whose node failed once, the result of the node, the folder and the waits."""
    folder, waits = tmp_path_factory.mktemp("registered"), []
    data = folder / "buckets" / "data"
    data.mkdir(parents=True)
    pushed_runs.leave_run(data)
    push = Importer(source_uri="gs://data/push", artifact_type=standard_artifacts.PushedModel).with_id("Push")
    report = Importer(source_uri="gs://data/report", artifact_type=PipelineReport).with_id("Report")
    pusher = vertex_registrar(pushed_runs.target(*golden_registration.OVERRIDES))(
        pushed_model=push.outputs["result"], report=report.outputs["result"], commit=pushed_runs.COMMIT
    )
    with fake_vertex_tunnel.serving(folder) as (fake, environment):
        # Compiled, too, where the key can be had.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", environment["GOOGLE_APPLICATION_CREDENTIALS"])
            job = rehearsed_jobs.compiled(folder, [push, report, pusher], change=_retried)
        golden_registration.lose_the_answer(fake)
        made = rehearse(job, folder, images=rehearsed_jobs.images(**environment), sleep=waits.append)
    return fake, made.results["VertexPusher"].made.artifacts["registered_model"], folder, waits


def test_node_that_is_tried_again_after_a_lost_answer_uploads_once(registered):
    fake, _, folder, waits = registered
    assert waits == [60]
    assert "the answer was lost" in (folder / "logs" / "VertexPusher.log").read_text()
    assert len(fake.called("UploadModel")) == 1
    assert [version.version_id for version in fake.versions[MODEL]] == ["1"]


def test_artifact_of_the_second_attempt_is_of_the_version_of_the_first(registered):
    _, made, _, _ = registered
    assert (made["metadata"]["registered"], made["metadata"]["model_version"]) == (1, f"{MODEL}@1")
    registration = json.loads(Path(made["uri"], "registration.json").read_text())
    assert (registration["version"], registration["is_new"]) == (f"{MODEL}@1", False)


def test_container_asks_for_what_stands_in_the_golden_file(registered):
    fake, made, folder, _ = registered
    run = Path(made["uri"]).parts[-3]
    sent = golden_registration.requests_of(fake, str(folder / "buckets" / "data"), run)
    assert sent == json.loads(golden_registration.GOLDEN.read_text()), "look at the change, then `make golden`"


def test_container_asked_nobody_but_vertex_ai_of_the_region(registered):
    fake, _, _, _ = registered
    assert set(fake.hosts) == {"us-central1-aiplatform.googleapis.com:443"}


def test_key_of_the_account_is_in_no_log_no_request_and_not_in_the_compiled_job(registered):
    fake, _, folder, _ = registered
    key = json.loads((folder / "key.json").read_text())["private_key"].splitlines()[3]
    logs = [path.read_text(errors="replace") for path in (folder / "logs").iterdir()]
    assert len(logs) == 1 and len(key) == 64
    assert not any(key in text for text in (*logs, str(fake.calls), (folder / "job.json").read_text()))
