"""What a rehearsal and a compilation refuse before anything is written or begun."""

import json
import os
import sys
import venv
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from history_runs import drift_json
from PIL import Image
from rich.console import Console

from pipeline import cli
from pipeline.config import load_config
from pipeline.history.journal import Journal
from pipeline.history.records import Records
from pipeline.runners import compiled, kubeflow, results
from pipeline.runners.rehearsal.execution import Result, State
from pipeline.runners.rehearsal.specification import RefusedError
from trainer.config import ConfigError

CLOUD = (
    "vertex.project=my-project",
    "vertex.pipeline_root=gs://my-bucket/runs",
    "vertex.image=registry/simclr:v1",
    "data.unlabeled=gs://my-bucket/u",
    "data.labeled=gs://my-bucket/l",
)
TPU = (
    "vertex.pretraining.machine_type=ct5lp-hightpu-4t",
    "vertex.pretraining.tpu_topology=2x2",
    "pretrain.compute.strategy=tpu",
)


def test_pretraining_on_a_tpu_is_refused_before_the_images_are_looked_at(tmp_path):
    config = load_config(None, [*TPU, "data.unlabeled=nowhere", "data.labeled=nowhere", f"output={tmp_path}"])
    with pytest.raises(ConfigError, match=r"^Pretrain: .*no TPU is here; rehearse with .*strategy=one_device"):
        compiled.run(config, console=Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_pipeline_that_a_rehearsal_would_refuse_is_not_compiled_either(tmp_path, monkeypatch):
    checked = []

    def refuse(job):
        checked.append(set(job.tasks))
        raise RefusedError("Push", "parameter 'x' is missing")

    monkeypatch.setattr(kubeflow, "validate", refuse)
    with pytest.raises(ConfigError, match="would not run: Push: parameter 'x' is missing"):
        kubeflow.compile_pipeline(load_config(None, [*CLOUD, "vertex.registry.model=m"]), tmp_path / "build")
    assert {"Push", "VertexPusher", "RunSummary"} <= checked[0]
    assert not (tmp_path / "build").exists()


def test_local_paths_are_seen_from_the_command_and_not_from_its_containers(
    tmp_path, class_folders, flat_folder, monkeypatch
):
    compiled_with = []

    def keep(config, *_, **__):
        compiled_with.append(config)
        raise ConfigError("enough")

    monkeypatch.setattr(compiled, "compile_pipeline", keep)
    monkeypatch.chdir(tmp_path)
    labeled, unlabeled = (os.path.relpath(folder, tmp_path) for folder in (class_folders, flat_folder))
    config = load_config(
        None, [f"data.labeled={labeled}", f"data.unlabeled={unlabeled}/*.png", "retrain.store=spans"]
    )
    with pytest.raises(ConfigError, match="enough"):
        compiled.run(config, console=Console(quiet=True))
    data, store = compiled_with[0].data, compiled_with[0].retrain.store
    assert (data.labeled, data.unlabeled) == (str(class_folders), f"{flat_folder}/*.png")
    assert store == str(tmp_path / "spans")


def rehearse(folder, class_folders, flat_folder, **interpreters):
    config = load_config(
        None,
        [
            f"data.unlabeled={flat_folder}",
            f"data.labeled={class_folders}",
            "vertex.image=registry/simclr:v1",
            f"output={folder / 'run'}",
        ],
    )
    compiled.run(config, console=Console(quiet=True), interpreters=interpreters)


def test_image_whose_python_lacks_what_its_nodes_start_is_refused(tmp_path, class_folders, flat_folder):
    venv.create(tmp_path / "bare")
    images = {"registry/simclr:v1": str(tmp_path / "bare" / "bin" / "python")}
    with pytest.raises(ConfigError, match=r"its image registry/simclr:v1 lacks tfx\."):
        rehearse(tmp_path, class_folders, flat_folder, **images)
    assert not list(tmp_path.glob("run/logs/*"))


def test_image_that_no_container_has_is_refused_with_those_that_they_have(tmp_path, class_folders, flat_folder):
    with pytest.raises(ConfigError, match="image other: no container has it; they have registry/simclr:v1"):
        rehearse(tmp_path, class_folders, flat_folder, other=sys.executable)


@pytest.mark.parametrize("pair", ["registry/simclr:v1", "registry/simclr:v1=no-such-python", f"={sys.executable}"])
def test_image_without_an_interpreter_is_wrong_usage(pair):
    done = CliRunner().invoke(cli.main, ["rehearse", "--image", pair])
    assert done.exit_code == 2
    assert "must be NAME=PYTHON" in done.output


def test_what_drift_left_where_it_stopped_the_rehearsal_comes_to_the_history(tmp_path):
    told = drift_json()
    (tmp_path / "Drift_1" / "drift").mkdir(parents=True)
    (tmp_path / "Drift_1" / "drift" / "drift.json").write_text(json.dumps(told))
    Image.new("RGB", (20, 10), "red").save(tmp_path / "Drift_1" / "drift" / "unusual-000.png")
    journal = Journal(str(tmp_path / "run"), "rehearse")
    announcer = compiled._Announcer(Console(quiet=True), results.RunRecord(str(tmp_path / "nodes.json")), journal)
    announcer.ended(SimpleNamespace(name="Drift"), Result(State.FAILED, left=tmp_path / "Drift_1"))
    announcer.ended(SimpleNamespace(name="Pretrain"), Result(State.FAILED))
    journal.end("stopped by drift", exit_code=3)
    [record] = Records(str(tmp_path / "run")).read()[0]
    assert (record.drift.p_value, record.drift.threshold) == (0.0005, 0.005)
    assert "data:image/png" in (tmp_path / "run" / "history" / record.drift_page).read_text("utf-8")
