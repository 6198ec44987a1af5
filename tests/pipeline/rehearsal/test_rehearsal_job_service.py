"""CustomJobs as processes: what they are given, how they end, what Vertex AI would refuse."""

import json
import sys

import pytest

from pipeline.runners.rehearsal.job_service import LocalJobService

_PARENT = "projects/p/locations/l"


@pytest.fixture
def create(tmp_path):
    """Creates a job of pools that run a script, and returns it as the service tells of it afterwards."""
    service = LocalJobService({"": {"path": "/usr/bin:/bin", "workdir": str(tmp_path)}})

    def create(script, *replicas, **pool):
        container = {"image_uri": "image", "command": [sys.executable, "-S", "-c", script]}
        container["env"] = [{"name": "OF_THE_WORKER", "value": "1"}]
        machine = {"machine_type": "n1-standard-4"}
        pools = [
            {"machine_spec": machine, "replica_count": count, "container_spec": container, **pool}
            for count in replicas
        ]
        job = {"display_name": "job", "job_spec": {"worker_pool_specs": pools}}
        return service.get_custom_job(name=service.create_custom_job(parent=_PARENT, custom_job=job).name)

    return create


def test_worker_runs_in_its_image_with_its_variables(create, tmp_path):
    job = create(
        "import os; open('seen', 'w').write(os.environ['OF_THE_WORKER'] + str(os.environ.get('TF_CONFIG')))", 1
    )
    assert (tmp_path / "seen").read_text() == "1None"
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.name.startswith(f"{_PARENT}/customJobs/")


def test_several_workers_are_told_of_one_another(create, tmp_path):
    script = (
        "import json, os; told = json.loads(os.environ['TF_CONFIG']); task = told['task']\n"
        "open(f\"{task['type']}{task['index']}\", 'w').write(json.dumps(told['cluster']))"
    )
    assert create(script, 1, 2).state.name == "JOB_STATE_SUCCEEDED"
    told = [(tmp_path / name).read_text() for name in ("chief0", "worker0", "worker1")]
    assert len(set(told)) == 1
    cluster = json.loads(told[0])
    assert [len(cluster["chief"]), len(cluster["worker"])] == [1, 2]
    assert len({*cluster["chief"], *cluster["worker"]}) == 3


def test_one_worker_fails_and_ends_the_job_with_its_code(create, tmp_path):
    # The chief waits for what does not come.
    script = (
        "import json, os, sys, threading\n"
        "if json.loads(os.environ['TF_CONFIG'])['task']['type'] == 'worker': sys.exit(3)\n"
        "threading.Event().wait(30)"
    )
    job = create(script, 1, 1)
    assert job.state.name == "JOB_STATE_FAILED"
    assert "[-9, 3]" in job.error.message


@pytest.mark.parametrize("pool", [{"machine_spec": {}}, {"replica_count": 0}])
def test_pool_without_machine_or_replicas_is_refused(pool, create):
    with pytest.raises(ValueError, match="worker pool 0 needs"):
        create("", 1, **pool)


def test_field_that_a_custom_job_lacks_is_refused(create):
    with pytest.raises(ValueError, match="machine_kind"):
        create("", 1, machine_kind="n1")
