"""The graph over a source that grows: what waits for new images, on both runners."""

import json
import re

import pytest
from tfx.dsl.experimental.conditionals import conditional

from pipeline.config import load_config
from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners import kubeflow
from pipeline.runners.vertex_preflight import needs, roles
from trainer.config import ConfigError

_STORE = "retrain.store=gs://my-bucket/spans"
_CLOUD = (
    "vertex.project=my-project",
    "vertex.pipeline_root=gs://my-bucket/runs",
    "vertex.image=registry/simclr:v1",
    "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
    "data.unlabeled=gs://my-bucket/u",
    "data.labeled=gs://my-bucket/l",
    "fractions=[0.1]",
)
_NEVER_WAIT = {"ImageExampleGen-labeled", "SpanIngest"}
_NEED_ONLY_LABELS = {
    *(f"{kind}-labeled" for kind in ("StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate", "Transform")),
    "LabelFractionSplit",
    "Supervised-10pct",
}


def build_pipeline(*overrides: str, **arguments):
    locations = Locations(artifacts="a", checkpoints="c", pushed="p")
    return create_pipeline(load_config(None, [*_CLOUD, *overrides]), locations, **arguments)


def build(*overrides: str, **arguments):
    return {node.id: node for node in build_pipeline(*overrides, **arguments).components}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    config = load_config(None, [*_CLOUD, _STORE])
    everything = dict.fromkeys(("unlabeled", "labeled", "pushed", "spans"), "known")
    compiled = kubeflow.compile_pipeline(config, tmp_path_factory.mktemp("build"), fingerprints=everything)
    return dict(kubeflow.tasks(json.loads(compiled.job.read_text())["pipelineSpec"]))


def test_store_puts_span_ingest_in_the_place_of_the_ingestion_of_unlabeled_images():
    without, with_store = set(build()), set(build(_STORE))
    assert without - with_store == {"ImageExampleGen-unlabeled"}
    assert with_store - without == {"SpanIngest", "Drift", "SpanTrained"}


def test_span_ingest_knows_source_settings_and_the_test_images():
    node = build(_STORE, "retrain.window_spans=4", "pretrain.batch_size=16", fingerprints={"spans": "abc"})[
        "SpanIngest"
    ]
    assert node.inputs["exclude"].producer_component_id == "ImageExampleGen-labeled"
    given = node.exec_properties
    assert (given["source"], given["min_window_images"], given["fingerprint"]) == ("gs://my-bucket/u", 16, "abc")
    settings = json.loads(given["settings"])
    assert (settings["store"], settings["window_spans"]) == ("gs://my-bucket/spans", 4)


def test_label_fractions_know_where_the_earlier_choice_is_kept():
    assert build(_STORE)["LabelFractionSplit"].exec_properties["store"] == "gs://my-bucket/spans"
    assert build()["LabelFractionSplit"].exec_properties["store"] is None


def test_pretraining_and_report_read_what_span_ingest_gives():
    nodes = build(_STORE)
    assert nodes["StatisticsGen-unlabeled"].inputs["examples"].producer_component_id == "SpanIngest"
    assert nodes["Transform-unlabeled"].inputs["examples"].producer_component_id == "SpanIngest"
    assert nodes["Report"].inputs["unlabeled_summary"].producer_component_id == "SpanIngest"


def test_student_learns_on_the_window_and_only_if_something_is_new(tmp_path):
    distils = (_STORE, "distill.enabled=true", "distill.label_weight=0.5")
    node = build(*distils)["Distill-10pct"]
    assert node.inputs["unlabeled"].producer_component_id == "Transform-unlabeled"
    compiled = kubeflow.compile_pipeline(load_config(None, [*_CLOUD, *distils]), tmp_path)
    tasks = dict(kubeflow.tasks(json.loads(compiled.job.read_text())["pipelineSpec"]))
    assert "proceed" in tasks["Distill-10pct"]["triggerPolicy"]["condition"]


def test_new_images_are_compared_with_the_window_before_anything_is_pretrained():
    nodes = build(_STORE)
    drift = nodes["Drift"]
    assert {name: (channel.producer_component_id, channel.output_key) for name, channel in drift.inputs.items()} == {
        "unlabeled": ("SpanIngest", "examples"),
        "labeled": ("ImageExampleGen-labeled", "examples"),
    }
    assert drift.exec_properties["retrain"] == nodes["SpanIngest"].exec_properties["settings"]
    assert drift.exec_properties["pushed"] == "p"
    assert drift in nodes["Pretrain"].upstream_nodes
    assert nodes["Report"].inputs["drift"].producer_component_id == "Drift"


def test_window_is_noted_as_trained_on_after_all_else():
    nodes = build(_STORE)
    assert {node.id for node in nodes["SpanTrained"].upstream_nodes} >= {"Report", "SpanIngest"}
    assert nodes["SpanTrained"].downstream_nodes == set()
    assert list(nodes)[-1] == "SpanTrained"


def test_compiled_all_that_comes_after_ingestion_waits_for_new_images(tasks):
    waiting = {name for name, task in tasks.items() if "proceed'] == 1.0" in str(task.get("triggerPolicy", ""))}
    assert waiting == set(tasks) - _NEVER_WAIT - {"RunSummary"}
    assert waiting > _NEED_ONLY_LABELS


def test_compiled_condition_is_on_an_artifact_that_the_first_of_those_that_wait_does_not_read(tasks):
    """If it did, TFX would compile an input that there isn't; which one is the first, their names decide."""
    looked_at = {
        name: re.findall(r"artifacts\['(.*?)'\]", task["triggerPolicy"]["condition"])
        for name, task in tasks.items()
        if "condition" in task.get("triggerPolicy", {})
    }
    assert looked_at.pop("Report") == ["unlabeled_summary"]
    assert set(map(tuple, looked_at.values())) == {("_SpanIngest.summary",)}


def test_where_cached_nodes_cost_nothing_those_of_labelled_images_do_not_wait():
    """Under a condition a new span would be an input to their cache keys, and they would run again for it."""
    nodes = build(_STORE, all_wait=False)
    for name in _NEED_ONLY_LABELS:
        assert "SpanIngest" not in {node.id for node in nodes[name].upstream_nodes}, name
    for name in set(nodes) - _NEVER_WAIT - _NEED_ONLY_LABELS:
        assert "SpanIngest" in {node.id for node in nodes[name].upstream_nodes}, name


@pytest.mark.parametrize("all_wait", [True, False])
def test_everything_that_trains_on_a_source_that_grows_waits_for_the_leakage_gate(all_wait):
    """And where the gate comes before nodes that run without new images, it is under no condition itself."""
    pipeline = build_pipeline(_STORE, "distill.enabled=true", all_wait=all_wait)
    nodes = {node.id: node for node in pipeline.components}

    def before(node):
        return {node.id} | {name for upstream in node.upstream_nodes for name in before(upstream)}

    for name in ("Pretrain", "FineTune-10pct", "Supervised-10pct", "Distill-10pct", "LinearEval"):
        assert "LeakageGate" in before(nodes[name]), name
    waits = conditional.get_predicates(nodes["LeakageGate"], pipeline.dsl_context_registry)
    assert bool(waits) is all_wait


def test_compiled_what_looks_at_the_store_is_never_answered_from_the_cache(tasks):
    uncached = {name for name, task in tasks.items() if "cachingOptions" not in task}
    assert uncached == {"SpanIngest", "SpanTrained", "RunSummary"}


def test_store_on_this_disk_is_refused_for_the_cloud(tmp_path):
    with pytest.raises(ConfigError, match=r"retrain\.store = 'spans': must be on gs://"):
        kubeflow.compile_pipeline(load_config(None, [*_CLOUD, "retrain.store=spans"]), tmp_path / "build")


def test_preflight_counts_the_further_node_and_the_right_to_write_spans():
    plain, with_store = (load_config(None, [*_CLOUD, *more]) for more in ((), ("retrain.store=gs://other/spans",)))
    assert needs.nodes(with_store) - needs.nodes(plain) == {"publish": 1, "evaluate": 1}
    writes = [grant.place for grant in roles.grants(with_store) if grant.role == roles.WRITE]
    assert writes == ["gs://my-bucket", "gs://other"]
