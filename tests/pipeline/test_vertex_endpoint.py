"""The endpoint: a canary's share, all traffic for the champion, nothing deployed twice, machines given back."""

import functools

import golden_requests
import grpc
import pytest

from components.google_calls import ServiceError
from pipeline.runners import vertex_registry

ENDPOINT = "projects/my-project/locations/us-central1/endpoints/photos"
SERVED = ("vertex.registry.model=simclr", "vertex.registry.endpoint=photos")
METHODS = ["CreateEndpoint", "GetEndpoint", "DeployModel", "UpdateEndpoint", "UndeployModel"]


pytestmark = pytest.mark.usefixtures("waits")


@pytest.fixture
def run(register):
    """Registers a model of this content with an endpoint to serve it."""
    return functools.partial(register, overrides=SERVED)


def promote(version="candidate"):
    return vertex_registry.promote(golden_requests.config(*SERVED).vertex, version)


def roll_back():
    return vertex_registry.roll_back(golden_requests.config(*SERVED).vertex)


def traffic(fake) -> dict[str, int]:
    """The percentage of each version that is deployed."""
    endpoint = fake.endpoints[ENDPOINT]
    return {item.model_version_id: endpoint.traffic_split.get(item.id, 0) for item in endpoint.deployed_models}


def test_first_candidate_is_deployed_without_traffic_and_promotion_gives_it_all(fake, run):
    assert run("a").reason == "Registered as version 1 of simclr. It gets 0% of the traffic of photos."
    assert traffic(fake) == {"1": 0}
    promote()
    assert traffic(fake) == {"1": 100}


def test_candidate_gets_the_canarys_share_and_the_champion_keeps_the_rest(fake, run):
    run("a")
    promote()
    assert run("b", overrides=(*SERVED, "vertex.registry.canary_percent=25")).reason.endswith(
        "It gets 25% of the traffic of photos."
    )
    assert traffic(fake) == {"1": 75, "2": 25}


def test_canary_of_no_share_is_deployed_beside_the_champion(fake, run):
    run("a")
    promote()
    run("b", overrides=(*SERVED, "vertex.registry.canary_percent=0"))
    assert traffic(fake) == {"1": 100, "2": 0}


def test_newer_candidate_takes_the_place_and_the_machines_of_the_older(fake, run):
    run("a")
    promote()
    for content in "bc":
        run(content)
    assert traffic(fake) == {"1": 90, "3": 10}
    promote()
    run("d")
    assert traffic(fake) == {"1": 0, "3": 90, "4": 10}


def test_rollback_gives_all_traffic_to_the_one_before_and_keeps_the_other(fake, run):
    for content in "ab":
        run(content)
        promote()
    assert traffic(fake) == {"1": 0, "2": 100}
    roll_back()
    assert traffic(fake) == {"1": 100, "2": 0}
    assert len(fake.called("DeployModel")) == 2


def test_machines_are_the_configured_ones(fake, run):
    key = golden_requests.KEY
    run("a", overrides=(*SERVED, "vertex.registry.machine_type=n1-standard-8", "vertex.registry.min_replicas=2",
                        "vertex.registry.max_replicas=5", f"vertex.kms_key={key}"))  # fmt: skip
    [request] = fake.called("DeployModel")
    machines = request.deployed_model.dedicated_resources
    assert machines.machine_spec.machine_type == "n1-standard-8"
    assert (machines.min_replica_count, machines.max_replica_count) == (2, 5)
    assert fake.endpoints[ENDPOINT].encryption_spec.kms_key_name == key


def test_older_model_pushed_again_changes_no_traffic(fake, run):
    for content in "ab":
        run(content)
        promote()
    run("c")
    for content, number in (("a", 1), ("b", 2)):
        assert run(content).reason == f"Already registered as version {number} of simclr."
        assert traffic(fake) == {"1": 0, "2": 90, "3": 10}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("looks_until_done", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_busy_endpoint_is_asked_again_and_a_lost_answer_repeats_nothing(fake, run, method, looks_until_done, after):
    fake.looks_until_done = looks_until_done
    fake.refuse(method, grpc.StatusCode.UNAVAILABLE, times=1, after=after)
    for content in "abc":
        run(content)
        promote()
    assert traffic(fake) == {"2": 0, "3": 100}
    assert len(fake.called("DeployModel")) == 3 + (method == "DeployModel" and not after)
    assert len(fake.versions[ENDPOINT.replace("endpoints/photos", "models/simclr")]) == 3


@pytest.mark.parametrize("method", METHODS)
def test_refused_permission_is_told_and_the_same_command_again_completes_it(fake, run, method):
    for content in "ab":
        run(content)
        promote()
    run("c")
    if method in ("CreateEndpoint", "DeployModel"):
        fake.endpoints.clear()
    fake.refuse(method, grpc.StatusCode.PERMISSION_DENIED, "denied")
    with pytest.raises(ServiceError, match=r"promote: denied\nyou need roles/aiplatform.user"):
        promote()
    promote()
    assert traffic(fake)["3"] == 100 and "1" not in traffic(fake)
