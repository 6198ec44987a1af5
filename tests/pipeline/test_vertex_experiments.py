"""Experiments on Vertex AI: the figures of each run are in its experiment, once."""

import grpc
import pytest
from google.cloud import aiplatform, aiplatform_v1
from pushed_runs import MODEL, PLACE

pytestmark = pytest.mark.usefixtures("waits")


def test_experiment_without_a_model_to_register_gets_the_figures_and_nothing_else(fake, register):
    result = register(overrides=("vertex.experiment=nightly", "vertex.registry.model=null"))
    assert (result.version, result.reason) == (None, "Not registered: vertex.registry.model is null.")
    [name] = [name for name in fake.contexts if name.endswith("-metrics")]
    assert "nightly" in name
    assert fake.called("UploadModel") == []


@pytest.mark.parametrize("pushed", [True, False])
def test_figures_of_each_run_are_in_its_experiment_once(fake, register, pushed):
    for _ in range(2):
        register(pushed=pushed, overrides=("vertex.experiment=nightly",))
    contexts = f"{PLACE}/metadataStores/default/contexts"
    name = f"{contexts}/nightly-simclr-1-metrics"
    assert set(fake.children) == {(f"{contexts}/nightly", name)}
    made = fake.contexts[name]
    assert (made.schema_title, made.display_name) == ("system.ExperimentRun", "simclr-1-metrics")
    assert dict(made.metadata["_metrics"]) == {
        "finetune_0.1_top1": 0.391, "finetune_0.1_top5": 0.88, "finetune_0.01_top1": 0.2, "finetune_0.01_top5": 0.7,
        "supervised_1_top1": 0.3, "supervised_1_top5": 0.7,
    }  # fmt: skip
    assert dict(made.metadata["_params"]) == {"commit": "0123abcd", "pushed": "false", "images_unlabeled": 1000.0}


def test_run_that_a_schedule_or_the_service_began_is_one_of_its_experiment(fake, register):
    contexts = f"{PLACE}/metadataStores/default/contexts"
    fake.contexts[f"{contexts}/simclr-1"] = aiplatform_v1.Context(name=f"{contexts}/simclr-1")
    for _ in range(2):
        register(job="simclr-1", overrides=("vertex.experiment=nightly",))
    entered = {child for parent, child in fake.children if parent == f"{contexts}/nightly"}
    assert entered == {f"{contexts}/simclr-1", f"{contexts}/nightly-simclr-1-metrics"}


def test_figures_can_be_read_by_the_sdk(fake, register):
    register(overrides=("vertex.experiment=nightly",))
    read = aiplatform.ExperimentRun("simclr-1-metrics", "nightly", project="my-project", location="us-central1")
    assert read.get_metrics()["finetune_0.1_top1"] == 0.391


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["CreateContext", "AddContextChildren"])
def test_busy_experiment_is_asked_again(fake, register, method, after):
    fake.refuse(method, grpc.StatusCode.UNAVAILABLE, after=after, times=2)
    register(overrides=("vertex.experiment=nightly",))
    assert len(set(fake.children)) == 1 and len(fake.versions[MODEL]) == 1
