"""The wiring: what the graph promises, and that the other runner accepts it."""

import json

import pytest
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

from pipeline import ingestion, trainings
from pipeline import pipeline as subject
from pipeline.config import load_config
from pipeline.pipeline import Locations, create_pipeline
from trainer.config import DistillConfig


def build(*overrides: str, fingerprints: dict[str, str] | None = None):
    locations = Locations(artifacts="a", checkpoints="c", pushed="p")
    return create_pipeline(load_config(None, overrides), locations, fingerprints=fingerprints)


def nodes(pipeline) -> dict:
    return {component.id: component for component in pipeline.components}


def test_every_fraction_has_its_fine_tuning_and_its_baseline():
    ids = set(nodes(build("fractions=[0.005, 0.1, 1]")))
    assert {
        f"{kind}-{share}" for kind in ("FineTune", "Supervised") for share in ("0_5pct", "10pct", "100pct")
    } <= ids


def test_baseline_does_not_depend_on_pretraining():
    baseline = nodes(build())["Supervised-10pct"]
    assert "Pretrain" not in {node.id for node in baseline.upstream_nodes}


def test_unlabeled_images_know_the_test_images_that_they_must_not_hold():
    unlabeled = nodes(build())["ImageExampleGen-unlabeled"]
    assert "ImageExampleGen-labeled" in {node.id for node in unlabeled.upstream_nodes}


def test_every_network_is_given_the_graph_that_says_the_size_of_the_labelled_images():
    made = nodes(build())
    for name in ("Pretrain", "FineTune-1pct", "Supervised-1pct"):
        assert made[name].inputs["transform_graph"].producer_component_id == "Transform-labeled", name
    assert made["Pretrain"].inputs["examples"].producer_component_id == "Transform-unlabeled"


def test_pretrain_knows_the_champions_folder_only_where_it_may_start_warm():
    for overrides, expected in (((), {}), (("warm_start.enabled=true", "warm_start.epochs=3"), {"pushed": "p"})):
        settings = json.loads(nodes(build(*overrides))["Pretrain"].exec_properties["custom_config"])
        assert {name: settings[name] for name in ("pushed",) if name in settings} == expected
        assert ("warm_start" in settings) is bool(expected)
    assert json.loads(settings["warm_start"])["epochs"] == 3


def test_push_keeps_what_the_candidate_was_pretrained_to():
    assert nodes(build())["Push"].inputs["pretrained"].producer_component_id == "Pretrain"


def test_transform_waits_for_the_gate():
    for name in ("labeled", "unlabeled"):
        transform = nodes(build())[f"Transform-{name}"]
        assert f"AnomalyGate-{name}" in {node.id for node in transform.upstream_nodes}


def test_everything_that_trains_waits_for_the_leakage_gate_which_sees_what_is_trained_on():
    made = nodes(build("distill.enabled=true"))
    gate = made["LeakageGate"]
    assert {name: channel.producer_component_id for name, channel in gate.inputs.items()} == {
        "labeled": "ImageExampleGen-labeled",
        "unlabeled": "ImageExampleGen-unlabeled",
    }

    def before(node):
        return {node.id} | {name for upstream in node.upstream_nodes for name in before(upstream)}

    for name in ("Pretrain", "FineTune-1pct", "Supervised-10pct", "Distill-1pct", "LinearEval"):
        assert "LeakageGate" in before(made[name]), name


@pytest.mark.parametrize("given_test", [True, False])
def test_held_out_share_applies_only_without_test_images(given_test):
    overrides = ["data.labeled=mine"] + (["data.test=theirs"] if given_test else [])
    labeled = nodes(build(*overrides))["ImageExampleGen-labeled"].exec_properties
    assert labeled["holdout_fraction"] == (0.0 if given_test else 0.1)
    assert len(json.loads(labeled["sources"])) == (2 if given_test else 1)


def test_fingerprint_of_a_source_is_part_of_its_node():
    labeled = nodes(build(fingerprints={"labeled": "abc"}))["ImageExampleGen-labeled"]
    assert labeled.exec_properties["fingerprint"] == "abc"


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("ImageExampleGen-labeled", "components.image_example_gen.executor"),
        ("ImageExampleGen-unlabeled", "components.image_example_gen.executor"),
        ("AnomalyGate-labeled", "components.anomaly_gate.component"),
        ("Transform-labeled", "components.transform.preprocessing"),
        ("Transform-unlabeled", "components.transform.preprocessing"),
        ("LeakageGate", "components.leakage_gate.executor"),
        ("LabelFractionSplit", "components.label_fraction_split.executor"),
        ("Pretrain", "components.training.pretrain"),
        ("LinearEval", "components.linear_eval.executor"),
        ("FineTune-1pct", "components.training.classifier"),
        ("Supervised-10pct", "components.training.classifier"),
        ("Distill-10pct", "components.training.distillation"),
        ("Push", "components.push.component"),
        ("Report", "components.report.executor"),
    ],
)
def test_node_that_runs_our_code_has_its_version_in_the_cache_key(monkeypatch, node, module):
    for wiring in (subject, ingestion, trainings):
        monkeypatch.setattr(wiring, "code_version", lambda name: f"<version of {name}>")
    assert f"<version of {module}>" in str(nodes(build("distill.enabled=true"))[node].exec_properties)


def producers(node) -> dict[str, str]:
    return {name: channel.producer_component_id for name, channel in node.inputs.items()}


def test_nothing_is_distilled_unless_it_is_asked_for():
    default, asked = nodes(build()), nodes(build("distill.enabled=true"))
    assert set(asked) - set(default) == {"Distill-1pct", "Distill-10pct"} and set(default) < set(asked)
    for name in set(default) - {"Evaluator", "Push", "Report"}:
        assert producers(asked[name]) == producers(default[name]), name


def test_student_of_each_fraction_is_taught_by_what_was_fine_tuned_on_it():
    made = nodes(build("distill.enabled=true", "distill.epochs=3", "distill.student.width=5"))
    for share, fraction in (("1pct", 0.01), ("10pct", 0.1)):
        student = made[f"Distill-{share}"]
        assert producers(student) == {
            "base_model": f"FineTune-{share}",
            "examples": "LabelFractionSplit",
            "unlabeled": "Transform-unlabeled",
            "transform_graph": "Transform-labeled",
        }
        assert student.inputs["base_model"].output_key == "model"
        assert student.inputs["unlabeled"].output_key == "transformed_examples"
        assert json.loads(student.exec_properties["train_args"]) == {"splits": [f"fraction-{share}"]}
        assert json.loads(student.exec_properties["eval_args"]) == {"splits": ["test"]}
        given = json.loads(student.exec_properties["custom_config"])
        assert (given["fraction"], given["checkpoint_root"], given["seed"]) == (fraction, "c", 0)
        config = DistillConfig.model_validate_json(given["config"])
        assert (config.epochs, config.student.width) == (3, 5)


@pytest.mark.parametrize(("overrides", "last"), [((), "FineTune"), (("distill.enabled=true",), "Distill")])
def test_candidate_is_of_the_last_step_on_the_largest_fraction(overrides, last):
    made = nodes(build(*overrides))
    for name in ("Evaluator", "Push"):
        assert made[name].inputs["model"].producer_component_id == f"{last}-10pct"
    assert made["Push"].inputs["pretrained"].producer_component_id == "Pretrain"


def test_report_is_given_the_run_of_each_classifier():
    inputs = producers(nodes(build("distill.enabled=true"))["Report"])
    runs = {producer for name, producer in inputs.items() if name.startswith("run_")}
    kinds = ("FineTune", "Distill", "Supervised")
    assert runs == {f"{kind}-{share}" for kind in kinds for share in ("1pct", "10pct")}


def test_kubeflow_v2_compiles_the_same_graph(tmp_path):
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    runner = KubeflowV2DagRunner(config, output_dir=str(tmp_path), output_filename="pipeline.json")
    pipeline = build("distill.enabled=true")
    runner.run(pipeline, write_out=True)
    compiled = json.loads((tmp_path / "pipeline.json").read_text())
    tasks = compiled["pipelineSpec"]["root"]["dag"]["tasks"]
    assert set(tasks) == set(nodes(pipeline))
