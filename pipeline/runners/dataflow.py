"""Beam on Dataflow: the arguments that make a Beam stage hire workers."""

from pipeline.config import PipelineConfig


def dataflow_args(config: PipelineConfig) -> list[str]:
    """Arguments of a Beam stage on Dataflow; its workers run the pipeline's image, so nothing is installed there.

    Args:
        config: with `vertex.project`, `vertex.pipeline_root` and `vertex.image`.
    """
    vertex, workers = config.vertex, config.beam.dataflow
    temp = (workers.temp_location or f"{vertex.pipeline_root.rstrip('/')}/dataflow").rstrip("/")
    args = [
        "--runner=DataflowRunner",
        f"--project={vertex.project}",
        f"--region={vertex.region}",
        f"--temp_location={temp}/temp",
        f"--staging_location={temp}/staging",
        f"--sdk_container_image={workers.image or vertex.image}",
        "--sdk_location=container",
        "--experiments=use_runner_v2",
        f"--worker_machine_type={workers.machine_type}",
        f"--max_num_workers={workers.max_workers}",
        f"--disk_size_gb={workers.disk_gb}",
    ]
    args += [f"--labels={key}={value}" for key, value in sorted(vertex.labels.items())]
    account = workers.service_account or vertex.service_account
    args += [f"--service_account_email={account}"] if account else []
    args += [f"--dataflow_kms_key={vertex.kms_key}"] if vertex.kms_key else []
    args += [f"--subnetwork={workers.subnetwork}"] if workers.subnetwork else []
    args += [] if workers.public_ips else ["--no_use_public_ips"]
    # Beam 2.74 would pickle a node's start command for the workers. Beam 2.64 would not, and passes over the flag.
    return [*args, "--no_save_main_session"]
