"""The compiled pipeline: every node has what the configuration gives it, and both forms are legal."""

import json
import platform
import re
from importlib.metadata import version
from pathlib import Path

import golden_job
import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.config import load_config
from pipeline.pipeline import Locations, create_pipeline
from pipeline.runners import kubeflow
from trainer.config import ConfigError

BASE = (
    "vertex.project=my-project",
    "vertex.pipeline_root=gs://my-bucket/runs",
    "vertex.image=registry/simclr:v1",
    "data.unlabeled=gs://my-bucket/u",
    "data.labeled=gs://my-bucket/l",
    "data.test=gs://my-bucket/t",
    "fractions=[0.1]",
)
TPU = (
    "vertex.pretraining.machine_type=ct5lp-hightpu-4t",
    "vertex.pretraining.tpu_topology=2x2",
    "pretrain.compute.strategy=tpu",
)
DISTIL = ("distill.enabled=true",)
DOCUMENT = Path(__file__).parents[2] / "docs" / "vertex.md"


class Job:
    """A compiled pipeline, by node."""

    def __init__(self, compiled: kubeflow.Compiled) -> None:
        self.job = json.loads(compiled.job.read_text())
        self.spec = self.job["pipelineSpec"]
        self.kubeflow = yaml.safe_load(compiled.yaml.read_text())
        self.tasks = tasks_of(self.spec)

    def container(self, node: str) -> dict:
        return self.spec["deploymentSpec"]["executors"][f"{node}_executor"]["container"]

    def parameter(self, node: str, name: str):
        return self.tasks[node]["inputs"]["parameters"][name]["runtimeValue"]["constant"]


def tasks_of(spec: dict) -> dict:
    root = {name: task for name, task in spec["root"]["dag"]["tasks"].items() if name != "tfx-dag"}
    return root | spec["components"]["tfx-dag"]["dag"]["tasks"]


@pytest.fixture
def compiled(tmp_path):
    def compile_it(*overrides: str, **arguments) -> Job:
        config = load_config(None, [*BASE, *overrides])
        return Job(kubeflow.compile_pipeline(config, tmp_path / "build", **arguments))

    return compile_it


def refused(tmp_path, *overrides: str, **arguments) -> str:
    with pytest.raises(ConfigError) as error:
        kubeflow.compile_pipeline(load_config(None, [*BASE, *overrides]), tmp_path / "build", **arguments)
    assert not (tmp_path / "build").exists()
    return str(error.value)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return golden_job.compiled_example(tmp_path_factory.mktemp("example"))


@pytest.mark.parametrize(("form", "golden"), [("job", golden_job.GOLDEN), ("yaml", golden_job.GOLDEN_YAML)])
def test_compiled_example_is_the_golden_file_to_the_byte(example, form, golden):
    text = getattr(example, form).read_text()
    assert golden_job.normalised(text) == golden.read_text(), "look at the change, then `make golden`"


def test_golden_files_leave_out_the_hash_of_each_nodes_code_and_nothing_else(example):
    for spec in (json.loads(example.job.read_text())["pipelineSpec"], yaml.safe_load(example.yaml.read_text())):
        versions = list(golden_job.code_versions(spec))
        assert len(versions) > 10
        assert all(re.fullmatch("[0-9a-f]{16}", version) for version in versions)


def test_every_node_is_there_with_command_image_and_keras(compiled):
    job = compiled()
    locations = Locations(artifacts="a", checkpoints="c", pushed="p")
    nodes = {node.id for node in create_pipeline(load_config(None, BASE), locations).components}
    assert set(job.tasks) == nodes | {"RunSummary"}
    for node in job.tasks:
        container = job.container(node)
        assert container["command"][:2] == ["python", "-m"]
        assert container["image"] == "registry/simclr:v1"
        assert container["env"] == [{"name": "TF_USE_LEGACY_KERAS", "value": "1"}]


def test_both_forms_are_of_the_published_schema_with_no_unknown_field(compiled):
    job = compiled(*TPU, "vertex.nodes.classify.accelerator=NVIDIA_L4", "vertex.nodes.classify.accelerator_count=1")
    for spec in (job.spec, job.kubeflow):
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
        assert spec["schemaVersion"] == "2.1.0"


@pytest.mark.parametrize(
    ("kind", "nodes"),
    [
        ("ingest", {"ImageExampleGen-unlabeled", "ImageExampleGen-labeled"}),
        ("check", {f"{n}-{s}" for n in ("StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate") for s in
                   ("unlabeled", "labeled")} | {"LeakageGate"}),
        ("transform", {"Transform-unlabeled", "Transform-labeled", "LabelFractionSplit"}),
        ("pretrain", {"Pretrain", "Distill-10pct"}),
        ("classify", {"FineTune-10pct", "Supervised-10pct"}),
        ("evaluate", {"LinearEval", "Evaluator"}),
        ("publish", {"Push", "Report", "RunSummary"}),
    ],
)  # fmt: skip
def test_kind_of_node_gives_its_nodes_and_no_others_image_resources_retries_and_no_cache(compiled, kind, nodes):
    job = compiled(
        *(
            f"vertex.nodes.{kind}.{setting}"
            for setting in (
                "image=registry/other:v2",
                "cpu=7",
                "memory_gb=52",
                "accelerator=NVIDIA_TESLA_T4",
                "accelerator_count=2",
                "retries=5",
                "cache=false",
            )
        ),
        *DISTIL,
        fingerprints={"unlabeled": "1", "labeled": "2", "pushed": "3"},
    )
    gpus = {"type": "NVIDIA_TESLA_T4", "count": "2"}
    for node in job.tasks:
        container, task = job.container(node), job.tasks[node]
        is_of_kind = node in nodes
        assert (container["image"] == "registry/other:v2") is is_of_kind
        assert (container["resources"] == {"cpuLimit": 7.0, "memoryLimit": 52.0, "accelerator": gpus}) is is_of_kind
        assert (task["retryPolicy"]["maxRetryCount"] == 5) is is_of_kind
        assert ("cachingOptions" not in task) is (is_of_kind or node == "RunSummary")


def test_document_has_every_node_of_the_largest_pipeline_under_its_kind(compiled):
    rows = re.findall(r"^  \| `(\w+)` \| ([^|;]+)", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = {node: kind for kind, nodes in rows for node in nodes.strip().split(", ")}
    cpus = {kind: 11 + number for number, kind in enumerate(dict.fromkeys(documented.values()))}
    forms = (), ("retrain.store=gs://my-bucket/spans", "vertex.experiment=photos", *DISTIL)
    found = {}
    for form in forms:
        job = compiled(*form, *(f"vertex.nodes.{kind}.cpu={cpu}" for kind, cpu in cpus.items()))
        found |= {node.partition("-")[0]: job.container(node)["resources"]["cpuLimit"] for node in job.tasks}
    assert found == {node: cpus[kind] for node, kind in documented.items()}


def test_retries_wait_longer_each_time_and_none_leaves_no_policy(compiled):
    settings = ("backoff_s=30", "factor=3", "max_backoff_s=600")
    job = compiled(*(f"vertex.retry.{setting}" for setting in settings), "vertex.nodes.publish.retries=0")
    assert job.tasks["Pretrain"]["retryPolicy"] == {
        "maxRetryCount": 2,
        "backoffDuration": "30s",
        "backoffFactor": 3.0,
        "backoffMaxDuration": "600s",
    }
    assert "retryPolicy" not in job.tasks["Push"]


def test_training_on_machines_of_its_own_is_not_tried_again_beside_its_own_job(compiled):
    job = compiled(*TPU, *DISTIL, "distill.compute.strategy=tpu")
    assert "retryPolicy" not in job.tasks["Pretrain"]
    assert "retryPolicy" not in job.tasks["Distill-10pct"]
    assert job.tasks["Evaluator"]["retryPolicy"]["maxRetryCount"] == 2


@pytest.mark.parametrize(
    ("fingerprint", "node"),
    [("unlabeled", "ImageExampleGen-unlabeled"), ("labeled", "ImageExampleGen-labeled"), ("pushed", "Push")],
)
def test_node_that_looks_at_more_than_artifacts_is_cached_only_with_a_fingerprint(compiled, fingerprint, node):
    without, known = compiled(), compiled(fingerprints={fingerprint: "0123"})
    uncached = {"ImageExampleGen-unlabeled", "ImageExampleGen-labeled", "Push", "RunSummary"}
    assert {name for name, task in without.tasks.items() if "cachingOptions" not in task} == uncached
    assert {name for name, task in known.tasks.items() if "cachingOptions" not in task} == uncached - {node}
    parameter = "code_version" if node == "Push" else "fingerprint"
    assert known.parameter(node, parameter).endswith("0123")


def test_exit_handler_runs_after_everything_and_gets_the_final_status(compiled):
    job = compiled()
    handler = job.spec["root"]["dag"]["tasks"]["RunSummary"]
    assert handler["dependentTasks"] == ["tfx-dag"]
    assert handler["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert handler["inputs"]["parameters"]["final_status"] == {"taskFinalStatus": {"producerTask": "tfx-dag"}}
    assert job.parameter("RunSummary", "destination") == "gs://my-bucket/runs/summaries"
    assert (job.parameter("RunSummary", "runs"), job.parameter("RunSummary", "region")) == (
        "gs://my-bucket/runs", "us-central1",
    )  # fmt: skip
    assert "gs://my-bucket/l" in job.parameter("RunSummary", "configuration")


def test_job_carries_labels_account_network_and_key_and_only_those_given(compiled):
    key = "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k"
    job = compiled(
        "vertex.labels.team=vision",
        "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
        "vertex.network=projects/12/global/networks/private",
        f"vertex.kms_key={key}",
    ).job
    assert job["labels"] == {
        "team": "vision",
        "tfx_runner": "kubeflow_v2",
        "tfx_version": version("tfx").replace(".", "-"),
        "tfx_py_version": "-".join(platform.python_version_tuple()[:2]),
    }
    assert job["serviceAccount"] == "runner@my-project.iam.gserviceaccount.com"
    assert job["network"] == "projects/12/global/networks/private"
    assert job["encryptionSpec"] == {"kmsKeyName": key}
    assert job["runtimeConfig"] == {"gcsOutputDirectory": "gs://my-bucket/runs"}
    assert not {"serviceAccount", "network", "encryptionSpec"} & set(compiled().job)


def test_kubeflow_form_differs_only_in_where_pretraining_runs_what_gpus_are_called_and_the_root(compiled):
    gpu = ("vertex.nodes.pretrain.accelerator=NVIDIA_L4", "vertex.nodes.pretrain.accelerator_count=2")
    job = compiled(*TPU, *gpu)
    on_vertex, here = job.spec, job.kubeflow
    assert here.pop("defaultPipelineRoot") == "gs://my-bucket/runs"
    executors = here["deploymentSpec"]["executors"]
    pretrain = executors["Pretrain_executor"]["container"]
    assert pretrain["resources"]["accelerator"] == {"type": "nvidia.com/gpu", "count": "2"}
    assert "tfx.components.trainer.executor.GenericExecutor" in pretrain["args"]
    parameters = tasks_of(here)["Pretrain"]["inputs"]["parameters"]
    custom_config = json.loads(parameters["custom_config"]["runtimeValue"]["constant"])
    assert json.loads(custom_config["config"])["compute"]["strategy"] == "mirrored"
    assert not any(name.startswith("ai_platform") for name in custom_config)
    assert tasks_of(here)["Pretrain"].pop("retryPolicy")["maxRetryCount"] == 2  # there is no second job beside it
    for spec in (on_vertex, here):
        spec["deploymentSpec"]["executors"].pop("Pretrain_executor")
        del tasks_of(spec)["Pretrain"]["inputs"]["parameters"]["custom_config"]
        for node in ("Report", "RunSummary"):  # both hold the whole configuration, the strategy with it
            del tasks_of(spec)[node]["inputs"]["parameters"]["configuration"]
    assert here == on_vertex


@pytest.mark.parametrize("field", ["project", "pipeline_root", "image"])
def test_what_compiling_needs_is_asked_for_by_name(tmp_path, field):
    assert f"vertex.{field} = null: must be given" in refused(tmp_path, f"vertex.{field}=null")


@pytest.mark.parametrize(
    "field",
    [
        *(f"data.{name}" for name in ("unlabeled", "labeled", "test", "labeled_manifest", "test_manifest")),
        "vertex.pipeline_root",
    ],
)
def test_local_path_is_refused_but_for_a_rehearsal(tmp_path, field):
    assert f"{field} = '/disk/here': must be on gs://" in refused(tmp_path, f"{field}=/disk/here")
    for nowhere in ("gs://", "gs:///runs"):
        assert f"{field} = '{nowhere}': names no bucket" in refused(tmp_path, f"{field}={nowhere}")
    config = load_config(None, [*BASE, f"{field}=/disk/here"])
    assert "/disk/here" in kubeflow.compile_pipeline(config, tmp_path, allow_local_paths=True).job.read_text()


@pytest.mark.parametrize("strategy", ["tpu", "multi_worker"])
def test_strategy_without_machines_of_its_own_is_refused(tmp_path, strategy):
    message = refused(tmp_path, f"pretrain.compute.strategy={strategy}")
    assert f"pretrain.compute.strategy = {strategy}" in message
    assert "vertex.pretraining.machine_type" in message


def test_slash_at_the_end_of_the_root_makes_no_other_paths(compiled):
    job = compiled("vertex.pipeline_root=gs://my-bucket/runs/")
    assert "gs://my-bucket/runs//" not in json.dumps(job.job)


def test_distillation_hires_what_pretraining_does_and_its_workers_run_what_a_node_would(compiled):
    alone = compiled(*DISTIL)
    hired = compiled(*TPU, *DISTIL, "distill.compute.strategy=tpu", "vertex.pretraining.image=registry/tpu:v1")
    own, on_vertex = (job.container("Distill-10pct")["args"] for job in (alone, hired))
    assert own[own.index("--executor_class_path") + 1] == "components.distill.executor.Executor"
    assert on_vertex[on_vertex.index("--executor_class_path") + 1] == "components.distill.on_vertex.Executor"
    given = [json.loads(hired.parameter(name, "custom_config")) for name in ("Pretrain", "Distill-10pct")]
    pretraining, distillation = (config["ai_platform_training_args"] for config in given)
    assert (pretraining["display_name"], distillation["display_name"]) == ("simclr-pretrain", "simclr-distill")
    assert distillation["job_spec"] == pretraining["job_spec"]
    assert distillation["job_spec"]["worker_pool_specs"][0]["container_spec"]["image_uri"] == "registry/tpu:v1"
    assert json.loads(given[1]["config"])["compute"]["strategy"] == "tpu"
    assert "ai_platform_training_args" not in json.loads(alone.parameter("Distill-10pct", "custom_config"))


def test_distillation_on_kubeflow_trains_in_its_node(compiled):
    job = compiled(*TPU, *DISTIL, "distill.compute.strategy=tpu")
    task = tasks_of(job.kubeflow)["Distill-10pct"]
    given = json.loads(task["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"])
    assert json.loads(given["config"])["compute"]["strategy"] == "one_device"
    assert "ai_platform_training_args" not in given


def test_distillation_whose_strategy_has_no_machines_is_refused(tmp_path):
    message = refused(tmp_path, *DISTIL, "distill.compute.strategy=multi_worker")
    assert message.startswith("distill.compute.strategy = multi_worker: needs machines of its own")
