"""Beam on Dataflow: which nodes hire workers, and the job graph that Dataflow would get, built without a network."""

import json

import golden_job
import pytest
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from pipeline.config import load_config
from pipeline.runners import kubeflow
from pipeline.runners.dataflow import dataflow_args

IMAGE = "us-central1-docker.pkg.dev/my-project/simclr/pipeline:v1"
HIRING = {"ImageExampleGen", "StatisticsGen", "Transform", "LabelFractionSplit", "LeakageGate"}


def example(*overrides: str):
    return load_config(str(golden_job.EXAMPLE), [*golden_job.OVERRIDES, *overrides])


def options_of(*overrides: str) -> PipelineOptions:
    return PipelineOptions(dataflow_args(example(*overrides)))


def test_only_the_heavy_beam_stages_hire_workers_and_only_where_it_is_configured(tmp_path):
    store, spans = "retrain.store=gs://my-bucket/store", HIRING | {"SpanIngest"}
    for runner, settings, beam, hiring in (
        ("dataflow", [], HIRING, HIRING),
        ("local", [], HIRING, set()),
        ("dataflow", [store], spans, spans),
    ):
        config = example(f"beam.runner={runner}", *settings)
        job = json.loads(kubeflow.compile_pipeline(config, tmp_path).job.read_text())
        executors = job["pipelineSpec"]["deploymentSpec"]["executors"].items()
        runners = {
            label.partition("-")[0].removesuffix("_executor"): [
                argument for argument in body["container"]["args"] if argument.startswith("--runner=")
            ]
            for label, body in executors
        }
        assert {name for name, found in runners.items() if found == ["--runner=DataflowRunner"]} == hiring
        local = {name for name, found in runners.items() if found and "FnApiRunner" in found[0]}
        assert local == (beam | {"Evaluator"}) - hiring


def test_workers_run_the_image_of_the_pipeline_in_its_region_and_below_its_root():
    options = options_of()
    cloud = options.view_as(GoogleCloudOptions)
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    assert options.view_as(WorkerOptions).sdk_container_image == IMAGE
    assert options.view_as(SetupOptions).sdk_location == "container"
    assert (cloud.project, cloud.region) == ("my-project", "us-central1")
    assert cloud.temp_location == "gs://my-bucket/runs/dataflow/temp"
    assert cloud.service_account_email == "simclr-dataflow@my-project.iam.gserviceaccount.com"
    assert cloud.labels == ["team=vision"]
    assert "use_runner_v2" in options.get_all_options()["experiments"]


def test_main_session_stays_here_whichever_stack_compiles_and_runs_a_node():
    """As a node's container reads its arguments. Beam 2.64 does not know the flag and passes over it alone."""
    given = dataflow_args(example())
    assert given[-1] == "--no_save_main_session"
    own = ["--executor_class_path=a.B", "--json_serialized_invocation_args={}"]
    _, handed_on = kubeflow_v2_run_executor._parse_flags([*own, *given])
    assert handed_on == given
    options = PipelineOptions(handed_on)
    assert options.view_as(SetupOptions).save_main_session is False
    found, others = options.get_all_options(), PipelineOptions(given[:-1]).get_all_options()
    assert found == others | {"save_main_session": False}


@pytest.mark.parametrize("field", ["vertex.pipeline_root", "beam.dataflow.temp_location"])
def test_slash_at_the_end_of_a_folder_makes_no_folder_without_a_name(field):
    with_slash, without = (
        options_of(f"{field}=gs://my-bucket/a{end}").view_as(GoogleCloudOptions) for end in ("/", "")
    )
    assert with_slash.temp_location == without.temp_location
    assert with_slash.staging_location == without.staging_location


def test_settings_of_the_workers_arrive():
    key = "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k"
    settings = {
        "machine_type": "n2-highmem-8",
        "max_workers": "7",
        "disk_gb": "99",
        "image": "registry/beam:v3",
        "temp_location": "gs://scratch/beam",
        "service_account": "worker@my-project.iam.gserviceaccount.com",
        "subnetwork": "regions/us-central1/subnetworks/private",
        "public_ips": "false",
    }
    options = options_of(
        *(f"beam.dataflow.{name}={value}" for name, value in settings.items()), f"vertex.kms_key={key}"
    )
    workers, cloud = options.view_as(WorkerOptions), options.view_as(GoogleCloudOptions)
    assert (workers.machine_type, workers.max_num_workers, workers.disk_size_gb) == ("n2-highmem-8", 7, 99)
    assert (workers.sdk_container_image, cloud.temp_location) == ("registry/beam:v3", "gs://scratch/beam/temp")
    assert cloud.service_account_email == "worker@my-project.iam.gserviceaccount.com"
    assert (workers.subnetwork, workers.use_public_ips) == ("regions/us-central1/subnetworks/private", False)
    assert cloud.dataflow_kms_key == key
