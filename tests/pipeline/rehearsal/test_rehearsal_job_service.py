"""CustomJobs as processes: what they are given, how they end, what Vertex AI would refuse."""

import json
import sys

import pytest

from pipeline.runners.rehearsal.job_service import LocalJobService

_PARENT = "projects/p/locations/l"


@pytest.fixture
def create(tmp_path):
    """Creates a job of pools that run a script, and returns it as the service tells of it afterwards."""
    image = {"path": "/usr/bin:/bin", "workdir": str(tmp_path), "environment": {"OF_THE_IMAGE": "2"}}
    service = LocalJobService({"": image})

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


def test_worker_runs_in_its_image_with_its_variables_and_none_of_the_node_that_waits(create, tmp_path, monkeypatch):
    monkeypatch.setenv("OF_THE_NODE", "3")
    job = create("import json, os; open('seen', 'w').write(json.dumps(dict(os.environ)))", 1)
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["OF_THE_WORKER"], seen["OF_THE_IMAGE"]) == ("1", "2")
    assert not {"OF_THE_NODE", "TF_CONFIG"} & set(seen)
    alone = json.loads(seen["CLUSTER_SPEC"])
    assert len(alone.pop("cluster")["workerpool0"]) == 1
    assert alone == {"task": {"type": "workerpool0", "index": 0}, "environment": "cloud"}
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.name.startswith(f"{_PARENT}/customJobs/")


def test_each_replica_is_a_process_that_is_told_of_all_and_which_it_is(create, tmp_path):
    script = (
        "import json, os; told = {name: json.loads(os.environ[name]) for name in ('TF_CONFIG', 'CLUSTER_SPEC')}\n"
        "open(str(os.getpid()), 'w').write(json.dumps(told))"
    )
    assert create(script, 1, 2).state.name == "JOB_STATE_SUCCEEDED"
    told = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert len(told) == 3
    for variable, chief, worker in (("TF_CONFIG", "chief", "worker"), ("CLUSTER_SPEC", "workerpool0", "workerpool1")):
        cluster, *others = [one[variable]["cluster"] for one in told]
        assert others == [cluster, cluster]
        assert {name: len(addresses) for name, addresses in cluster.items()} == {chief: 1, worker: 2}
        assert len({*cluster[chief], *cluster[worker]}) == 3
        tasks = [(one[variable]["task"]["type"], one[variable]["task"]["index"]) for one in told]
        assert sorted(tasks) == [(chief, 0), (worker, 0), (worker, 1)]
    named = {(one["TF_CONFIG"]["task"]["index"], *one["CLUSTER_SPEC"]["task"].values()) for one in told}
    assert named == {(0, "workerpool0", 0), (0, "workerpool1", 0), (1, "workerpool1", 1)}


@pytest.mark.parametrize("replicas", [(), (2,), (2, 1), (1, 1, 1)])
def test_pools_that_are_no_chief_and_its_workers_are_refused(replicas, create):
    with pytest.raises(ValueError, match="the first worker pool is one machine"):
        create("", *replicas)


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
