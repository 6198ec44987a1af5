"""What one stack wrote is read by the other; `make test-stacks` lets each leave and then read.

A stack leaves a whole run of the pipeline, what its pushed model says of the images, and trainings that were stopped:
a pretraining by LARS, and one on labels by AdamW.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer import classifiers, loop, opening, stages
from trainer.config import AugmentConfig, ClassifierConfig, CropConfig, EncoderConfig, HeadConfig, PretrainConfig

pytestmark = pytest.mark.stacks

ROOT = Path(__file__).resolve().parents[2]
STACK = version("tfx")
STOPPED_AFTER, STEPS = 3, 12
ENCODER = EncoderConfig(stage_blocks=(1,), width=4)
PRETRAIN = PretrainConfig(
    encoder=ENCODER,
    head=HeadConfig(output_dim=8),
    augment=AugmentConfig(crop=CropConfig(size_px=16)),
    batch_size=24,
    epochs=4,
)


@pytest.fixture
def other(shared) -> Path:
    """The folder of the stack that this one is not."""
    (found,) = [path for path in shared.iterdir() if path.name not in (STACK, "images")]
    return found


def run_pipeline(images, output):
    sources = ["--unlabeled", f"{images}/unlabeled", "--labeled", f"{images}/labeled", "--output", str(output)]
    command = [sys.executable, "-m", "pipeline", "run", "--config", "tests/tiny.yaml", *sources]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((output / "metrics.json").read_text())


def outputs(model, images):
    served = tf.saved_model.load(str(model))
    encoded = tf.constant([path.read_bytes() for path in sorted(images.glob("labeled/*/*"))])
    return {
        # Names of classes are objects to NumPy, which it would only keep as a pickle.
        f"{signature}-{name}": value.numpy().astype(bytes) if value.dtype == tf.string else value.numpy()
        for signature in ("serving_default", "embed")
        for name, value in served.signatures[signature](image_bytes=encoded).items()
    }


def pretrain(images, checkpoints, report):
    files = opening.images(f"{images}/unlabeled", 16)
    return stages.pretrain(PRETRAIN, files, seed=0, checkpoint_dir=str(checkpoints), report=report)


def train_on_labels(images, checkpoints, report):
    files = opening.labeled(f"{images}/labeled", 16)
    return classifiers.train_classifier(
        ClassifierConfig(batch_size=8, steps=STEPS, epochs=None),
        files,
        seed=0,
        encoder_config=ENCODER,
        size_px=16,
        n_classes=len(files.classes),
        checkpoint_dir=str(checkpoints),
        report=report,
    )


TRAININGS = {"pretraining": pretrain, "on labels": train_on_labels}


def test_stack_leaves_a_run_its_models_outputs_and_stopped_trainings(shared, flat_folder, class_folders):
    mine, images = shared / STACK, shared / "images"
    if not images.exists():
        shutil.copytree(flat_folder, images / "unlabeled")
        shutil.copytree(class_folders, images / "labeled")
    run_pipeline(images, mine / "run")
    np.savez(mine / "outputs.npz", **outputs(mine / "run" / "pushed" / "1", images))

    def stop(progress):
        if progress.step == STOPPED_AFTER:
            os.kill(os.getpid(), signal.SIGTERM)

    for name, train in TRAININGS.items():
        with pytest.raises(loop.PreemptedError):
            train(images, mine / "checkpoints" / name, stop)


def test_pushed_model_of_the_other_stack_is_served_alike(shared, other):
    found, expected = outputs(other / "run" / "pushed" / "1", shared / "images"), np.load(other / "outputs.npz")
    assert sorted(found) == sorted(expected) and found
    for name in found:
        if found[name].dtype.kind == "f":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("name", TRAININGS)
def test_training_that_stopped_on_the_other_stack_goes_on(shared, other, tmp_path, name):
    seen = []
    shutil.copytree(other / "checkpoints" / name, tmp_path / "checkpoints")
    done = TRAININGS[name](shared / "images", tmp_path / "checkpoints", lambda progress: seen.append(progress.step))
    assert seen == list(range(STOPPED_AFTER + 1, STEPS + 1))
    losses = [row["loss"] for row in done.history.rows]
    assert len(losses) == STEPS and np.isfinite(losses).all()


def test_run_of_the_other_stack_is_taken_up_in_its_folder(shared, other):
    """Its metadata is read, its artifacts answer for all but what looks at the champion, and that stays."""
    metrics = run_pipeline(shared / "images", other / "run")
    assert {node["name"] for node in metrics["nodes"] if not node["cached"]} <= {"Push", "Report"}
    assert metrics["pushed"] == str(other / "run" / "pushed" / "1")
