"""Jobs that run: what containers are told, in which environment and order, and what failures and kills leave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runners.rehearsal.images import Image, Images
from pipeline.runners.rehearsal.run import TaskFailedError

ROOT = Path(__file__).resolve().parents[3]
_WRITE = "output_uri('model').write_text('whole')\n"
_CACHED = {"cachingOptions": {"enableCache": True}}


def _answer(**metadata):
    return {"model": {"artifacts": [{"metadata": metadata}]}}


def test_container_is_told_its_inputs_and_where_to_write(job, rehearsal):
    job.container("First", f"{_WRITE}say(artifacts={_answer(span=3)})", outputs=("model",))
    seen = job.container("Second", "print(sys.argv[1]); print(sys.argv[2])", inputs={"model": "First.model"})
    seen["args"].append("at={{$.inputs.artifacts['model'].uri}}")
    rehearsal(job)
    told, uri = rehearsal.log("Second").splitlines()
    [artifact] = json.loads(told)["inputs"]["artifacts"]["model"]["artifacts"]
    assert artifact["metadata"] == {"span": 3}
    assert artifact["type"] == job.MODEL
    assert uri == f"at={artifact['uri']}"
    assert Path(artifact["uri"]).read_text() == "whole"


def test_buckets_are_a_folder_also_within_json_and_command_lines(job, rehearsal):
    show = "print(json.loads(values['config'])['path'], sys.argv[2])"
    job.container("First", show, parameters={"config": '{"path": "gs://b/x"}'})["args"].append("--to=gs://b")
    rehearsal(job)
    buckets = rehearsal.folder / "buckets"
    assert rehearsal.log("First").strip() == f"{buckets}/b/x --to={buckets}/b"


def test_numbers_arrive_as_floats_and_defaults_are_filled_in(job, rehearsal):
    job.container("First", "print(json.dumps(values))", parameters={"number": 3})
    declared = job.components["First"]["inputDefinitions"]["parameters"]
    declared["steps"] = {"parameterType": "NUMBER_INTEGER", "defaultValue": 7}
    rehearsal(job)
    assert rehearsal.log("First").strip() == '{"steps": 7.0, "number": 3.0}'


def test_names_of_the_run_are_filled_into_values_as_vertex_ai_does(job, rehearsal):
    run = (
        "{{$.pipeline_job_name}} of {{$.pipeline_job_resource_name}}, {{$.pipeline_task_name}} in {{$.pipeline_root}}"
    )
    job.container("First", "print(values['run']); print(output_uri('model').parts[-3])", outputs=("model",),
                  parameters={"run": run})  # fmt: skip
    rehearsal(job)
    said, run_id = rehearsal.log("First").splitlines()
    resource = f"projects/0/locations/rehearsal/pipelineJobs/{run_id}"
    assert said == f"{run_id} of {resource}, First in {rehearsal.folder}/buckets/bucket/root"


def test_parameter_that_a_task_writes_reaches_the_next(job, rehearsal):
    job.container("First", "say(parameterValues={'accuracy': 0.5})")
    job.components["First"]["outputDefinitions"]["parameters"]["accuracy"] = {"parameterType": "NUMBER_DOUBLE"}
    job.container("Second", "print(values['accuracy'])", parameters={"accuracy": 0.0})
    source = {"producerTask": "First", "outputParameterKey": "accuracy"}
    job.tasks["Second"]["inputs"]["parameters"]["accuracy"] = {"taskOutputParameter": source}
    rehearsal(job)
    assert rehearsal.log("Second").strip() == "0.5"


def test_parameter_that_was_promised_and_not_written_fails(job, rehearsal):
    job.container("First")
    job.components["First"]["outputDefinitions"]["parameters"]["accuracy"] = {"parameterType": "NUMBER_DOUBLE"}
    with pytest.raises(TaskFailedError, match="'accuracy' was not written"):
        rehearsal(job)


def test_environment_is_only_what_the_image_and_the_container_set(job, rehearsal, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret")
    container = job.container("First", "print(sorted(os.environ), os.environ['HOME'] == os.path.expanduser('~'))")
    container["env"] = [{"name": "OF_THE_CONTAINER", "value": "1"}]
    rehearsal(job, images=Images(Image(environment={"OF_THE_IMAGE": "1"})))
    # Python itself sets LC_CTYPE where the locale is C.
    expected = ["HOME", "LANG", "OF_THE_CONTAINER", "OF_THE_IMAGE", "PATH", "PYTHONUNBUFFERED", "TMPDIR"]
    assert rehearsal.log("First").replace("'LC_CTYPE', ", "").strip() == f"{expected} True"


def test_ready_tasks_run_at_once_and_no_more_than_allowed(job, rehearsal):
    # Each waits for the other's file: alone, neither would end well.
    meet = (
        "root = output_uri('model').parents[1]; (root / values['me']).touch()\n"
        "import time; latest = time.monotonic() + 20\n"
        "while not (root / values['other']).exists(): assert time.monotonic() < latest"
    )
    job.container("A", meet, outputs=("model",), parameters={"me": "a", "other": "b"})
    job.container("B", meet, outputs=("model",), parameters={"me": "b", "other": "a"})
    job.container("C")
    rehearsal(job, parallel=2)
    assert rehearsal.most_running == 2


def test_failure_stops_what_depends_on_it_and_tells_its_last_words(job, rehearsal):
    job.container("Bad", "print('a'); sys.exit('the disk is full')", outputs=("model",))
    job.container("After", inputs={"model": "Bad.model"})
    job.container("Beside")
    job.container("Last", dependentTasks=["After"])
    with pytest.raises(TaskFailedError, match=r"exit code 1; its last lines:\na\nthe disk is full") as failed:
        rehearsal(job)
    assert failed.value.node == "Bad"
    assert failed.value.log == rehearsal.folder / "logs" / "Bad.log"
    assert rehearsal.states == {
        "Bad": "FAILED", "After": "NOT_STARTED", "Beside": "SUCCEEDED", "Last": "NOT_STARTED",
    }  # fmt: skip


@pytest.mark.parametrize(("policy", "state"), [("slow", "SUCCEEDED"), ("fast", "NOT_STARTED")])
def test_failure_policy_decides_whether_what_does_not_need_the_failed_task_still_begins(
    policy, state, job, rehearsal
):
    job.container("First", "sys.exit(1)")
    job.container("Second")
    with pytest.raises(TaskFailedError):
        rehearsal(job, parallel=1, failure_policy=policy)
    assert rehearsal.states == {"First": "FAILED", "Second": state}


def test_container_that_is_killed_has_failed_and_its_half_output_is_not_cached(job, rehearsal):
    job.container("First", f"{_WRITE}os.kill(os.getpid(), 9)", outputs=("model",), **_CACHED)
    for _ in range(2):
        with pytest.raises(TaskFailedError, match="was ended by SIGKILL"):
            rehearsal(job)


def test_failed_task_is_tried_again_after_longer_and_longer_waits(job, rehearsal, tmp_path):
    tries = tmp_path / "tries"
    fail_three_times = (
        "seen = pathlib.Path(values['tries']); n = len(seen.read_text()) if seen.exists() else 0\n"
        "assert not output_uri('model').exists(); output_uri('model').write_text('half')\n"
        "seen.write_text('x' * (n + 1)); sys.exit(n < 3)"
    )
    policy = {"maxRetryCount": 3, "backoffDuration": "10s", "backoffFactor": 3.0, "backoffMaxDuration": "60s"}
    job.container("First", fail_three_times, outputs=("model",), parameters={"tries": str(tries)}, retryPolicy=policy)
    rehearsal(job)
    assert rehearsal.waits_s == [10, 30, 60]
    assert tries.read_text() == "xxxx"


def test_retries_end(job, rehearsal):
    job.container("First", "sys.exit(1)", retryPolicy={"maxRetryCount": 2, "backoffDuration": "1s"})
    with pytest.raises(TaskFailedError):
        rehearsal(job)
    assert rehearsal.waits_s == [1, 2]


def test_unchanged_task_is_cached_with_all_after_it_and_a_changed_one_is_not(job, rehearsal):
    job.container("First", _WRITE, outputs=("model",), parameters={"rate": 1.0}, **_CACHED)
    job.container("Second", "input_uri('model').read_text()", inputs={"model": "First.model"}, **_CACHED)
    job.container("Uncached", "")
    first = rehearsal(job).results["First"].made.artifacts["model"]
    again = rehearsal(job)
    assert rehearsal.states == {"First": "CACHED", "Second": "CACHED", "Uncached": "SUCCEEDED"}
    assert again.results["First"].made.artifacts["model"] == first
    job.tasks["First"]["inputs"]["parameters"]["rate"]["runtimeValue"]["constant"] = 2.0
    rehearsal(job)
    assert rehearsal.states["First"] == rehearsal.states["Second"] == "SUCCEEDED"


def test_other_command_or_image_is_not_cached_other_machine_is(job, rehearsal):
    container = job.container("First", _WRITE, outputs=("model",), **_CACHED)
    rehearsal(job)
    container["resources"] = {"cpuLimit": 4.0}
    rehearsal(job)
    assert rehearsal.states == {"First": "CACHED"}
    container["image"] = "other"
    rehearsal(job)
    assert rehearsal.states == {"First": "SUCCEEDED"}


def test_cached_output_that_is_gone_is_made_again(job, rehearsal):
    job.container("First", _WRITE, outputs=("model",), **_CACHED)
    made = rehearsal(job).results["First"].made
    Path(made.artifacts["model"]["uri"]).unlink()
    rehearsal(job)
    assert rehearsal.states == {"First": "SUCCEEDED"}


def test_driver_runs_before_the_cache_is_looked_at(job, rehearsal, tmp_path):
    images = tmp_path / "images"
    images.write_text("one")
    container = job.container("Ingest", parameters={"images": str(images), "fingerprint": ""}, **_CACHED)
    resolve = container["command"][3] + "say(parameterValues={'fingerprint': open(values['images']).read()})"
    container["lifecycle"] = {"preCacheCheck": {"command": ["python", "-S", "-c", resolve], "args": ["{{$}}"]}}
    # The executor reads what the driver has left in the output file, as TFX's entry point does.
    container["command"][3] += (
        "print(values['fingerprint']); print(json.load(open(told['outputs']['outputFile']))['parameterValues'])"
    )
    rehearsal(job)
    assert rehearsal.log("Ingest").splitlines() == ["one", "{'fingerprint': 'one'}"]
    rehearsal(job)
    assert rehearsal.states == {"Ingest": "CACHED"}
    images.write_text("two")
    rehearsal(job)
    assert rehearsal.states == {"Ingest": "SUCCEEDED"}


@pytest.mark.parametrize(("blessed", "state"), [(1, "SUCCEEDED"), (0, "NOT_TRIGGERED")])
def test_condition_decides_for_the_task_and_all_after_it(blessed, state, job, rehearsal):
    job.container("Gate", f"say(artifacts={_answer(blessed=blessed)})", outputs=("model",))
    condition = "(inputs.artifacts['model'].artifacts[0].metadata['blessed'] == 1.0)"
    job.container("Push", inputs={"model": "Gate.model"}, triggerPolicy={"condition": condition})
    job.container("After", dependentTasks=["Push"])
    rehearsal(job)
    assert rehearsal.states == {"Gate": "SUCCEEDED", "Push": state, "After": state}


def _importer(job, uri, **importer):
    job.container("Import", outputs=("model",), parameters={"artifact_uri": uri})
    spec = {"artifactUri": {"runtimeParameter": "artifact_uri"}, "typeSchema": job.MODEL}
    job.executors["Import"] = {"importer": {**spec, "metadata": {"span": 2}, **importer}}


@pytest.mark.parametrize(("reimport", "state"), [(False, "CACHED"), (True, "SUCCEEDED")])
def test_importer_hands_on_what_is_there_anew_only_if_told(reimport, state, job, rehearsal, tmp_path):
    folder = tmp_path / "buckets" / "b"
    folder.mkdir(parents=True)
    _importer(job, "gs://b", reimport=reimport)
    job.container("After", "print(input_uri('model'))", inputs={"model": "Import.model"}, **_CACHED)
    made = rehearsal(job).results["Import"].made
    assert made.artifacts["model"]["metadata"] == {"span": 2.0}
    assert rehearsal.log("After").strip() == str(folder)
    rehearsal(job)
    assert rehearsal.states["After"] == state


def test_importer_of_nothing_fails(job, rehearsal):
    _importer(job, "gs://nowhere")
    with pytest.raises(TaskFailedError, match="nowhere, which there isn't"):
        rehearsal(job)


@pytest.mark.parametrize("code", [0, 1])
def test_exit_handler_runs_always_and_is_told_how_it_went(code, job, rehearsal):
    job.container("Inner", f"sys.exit({code})", outputs=("model",))
    job.container("After", inputs={"model": "Inner.model"})
    inner = dict(job.tasks)
    job.tasks.clear()
    job.components["tfx-dag"] = {"dag": {"tasks": inner}}
    job.tasks["tfx-dag"] = {"componentRef": {"name": "tfx-dag"}, "taskInfo": {"name": "tfx-dag"}}
    job.container(
        "Summary",
        "print(values['status'])",
        parameters={"status": ""},
        dependentTasks=["tfx-dag"],
        triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    )
    job.tasks["Summary"]["inputs"]["parameters"]["status"] = {"taskFinalStatus": {"producerTask": "tfx-dag"}}
    if code:
        with pytest.raises(TaskFailedError) as failed:
            rehearsal(job)
        assert failed.value.node == "Inner"
    else:
        rehearsal(job)
    status = json.loads(rehearsal.log("Summary"))
    assert status["state"] == ("FAILED" if code else "SUCCEEDED")
    run = status["pipelineJobResourceName"].rpartition("/")[2]
    left = json.loads((rehearsal.folder / "buckets" / "bucket" / "root" / run / "job.json").read_text())
    states = {detail["taskName"]: detail["state"] for detail in left["jobDetail"]["taskDetails"]}
    assert states == ({"Inner": "FAILED", "After": "CANCELLED"} if code else dict.fromkeys(inner, "SUCCEEDED"))
    assert ("error" in status) is bool(code)
    assert list(rehearsal.states.items())[-1] == ("Summary", "SUCCEEDED")


_REHEARSE = """
import pathlib, signal, sys
from pipeline.runners.rehearsal.run import rehearse
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this one
rehearse(*map(pathlib.Path, sys.argv[1:]))
"""


@pytest.fixture
def broken_off(job, tmp_path, request):
    """A rehearsal that was ended by a signal while its second container had written half of its output."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    half = "output_uri('model').write_text('half'); open(values['pipe'], 'w').write('x'); open(values['pipe']).read()"
    job.container("First", _WRITE, outputs=("model",), **_CACHED)
    second = {"inputs": {"model": "First.model"}, "outputs": ("model",), "parameters": {"pipe": str(pipe)}}
    job.container("Second", half, **second, **_CACHED)
    command = [sys.executable, "-c", _REHEARSE, str(job.write(tmp_path)), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert pipe.read_text() == "x"
    process.send_signal(request.param)
    process.wait(timeout=300)
    job.container("Second", _WRITE, **second, **_CACHED)
    return pipe


@pytest.mark.parametrize("broken_off", [signal.SIGINT], indirect=True)
def test_interrupted_rehearsal_ends_its_containers_and_the_next_goes_on(broken_off, job, rehearsal):
    made = rehearsal(job).results["Second"].made
    assert rehearsal.states == {"First": "CACHED", "Second": "SUCCEEDED"}
    assert Path(made.artifacts["model"]["uri"]).read_text() == "whole"


@pytest.mark.parametrize("broken_off", [signal.SIGKILL], indirect=True)
def test_rehearsal_after_a_kill_waits_for_its_containers_and_takes_no_half_output(broken_off, job, rehearsal):
    rehearsal.when_waiting = [lambda: broken_off.write_text("")]  # the end of what the container reads
    made = rehearsal(job).results["Second"].made
    assert rehearsal.when_waiting == []
    assert rehearsal.states == {"First": "CACHED", "Second": "SUCCEEDED"}
    assert Path(made.artifacts["model"]["uri"]).read_text() == "whole"
