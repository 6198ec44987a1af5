"""Whole runs with a root on gs://, and what is told of them."""

import json


def summarise(root: str) -> None:
    """Writes what became of a run to `root`/summaries; how its node went and what it made is on the store too."""
    from tfx.dsl.io import fileio

    from components.run_summary.component import RunSummary_Executor

    report = {
        "taskName": "Report",
        "state": "SUCCEEDED",
        "outputs": {"report": {"artifacts": [{"uri": f"{root}/r"}]}},
    }
    files = {
        "simclr-1/job.json": {"jobDetail": {"taskDetails": [report]}},
        "r/metrics.json": {"rows": [{"arm": "finetune", "label_fraction": 1.0, "top1": 0.5}], "ingest": {}},
    }
    for name, value in files.items():
        with fileio.open(f"{root}/{name}", "w") as file:
            file.write(json.dumps(value))
    status = {"state": "SUCCEEDED", "pipelineJobResourceName": "projects/1/locations/mars/pipelineJobs/simclr-1"}
    properties = {
        "final_status": json.dumps(status),
        "destination": f"{root}/summaries",
        "runs": root,
        "region": "us-central1",
        "configuration": "seed: 1\n",
    }
    RunSummary_Executor().Do({}, {}, properties)


def history(root: str) -> None:
    """What `make history` runs."""
    from pipeline import cli

    cli.main(["history", "--output", root], standalone_mode=False)


def history_of_nothing(root: str) -> list[int]:
    """Exit codes of `make history` where there are no runs, and where there is no bucket."""
    from click.testing import CliRunner

    from pipeline import cli

    roots = (root, "gs://no-such-bucket/runs")
    done = [CliRunner().invoke(cli.main, ["history", "--output", output]) for output in roots]
    assert all("it broke off: " in one.output and "Traceback" not in one.output for one in done)
    return [one.exit_code for one in done]


def run_pipeline(root: str) -> None:
    """The whole pipeline, tiny, by TFX's own LocalDagRunner: all but its metadata is below `root`."""
    import tempfile

    from tfx.orchestration import metadata
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    from pipeline.config import load_config
    from pipeline.pipeline import Locations, create_pipeline
    from pipeline.runners.beam_processes import beam_pipeline_args

    stage = ["batch_size=8", "steps=2"]
    config = load_config(
        overrides=[
            f"data.unlabeled={root}/unlabeled",
            f"data.labeled={root}/labeled",
            "data.holdout_fraction=0.4",
            "fractions=[1]",
            "pretrain.encoder.stage_blocks=[1]",
            "pretrain.encoder.width=4",
            "pretrain.head.output_dim=8",
            "pretrain.augment.jitter_strength=0",
            "pretrain.augment.grayscale_probability=0",
            "pretrain.batch_size=8",
            "pretrain.epochs=2",
            "probe.inverse_regularization=[0.1, 1.0]",
            *(f"{name}.{setting}" for name in ("finetune", "supervised") for setting in stage),
            "gate.min_top1=0",
        ]
    )
    folders = {name: f"{root}/{name}" for name in ("artifacts", "checkpoints", "pushed")}
    with tempfile.TemporaryDirectory() as local:
        pipeline = create_pipeline(
            config,
            Locations(**folders),
            beam_pipeline_args=beam_pipeline_args(config.beam.workers),
            metadata_connection_config=metadata.sqlite_metadata_connection_config(f"{local}/metadata.sqlite"),
        )
        LocalDagRunner().run(pipeline)
