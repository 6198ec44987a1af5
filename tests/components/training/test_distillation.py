"""Distill's run_fn: a teacher as FineTune leaves it, images with and without labels, and the student of these."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from example_files import class_images, write_examples
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common, distillation
from trainer import data, export, heads, probes, resnet, sources, stages
from trainer.config import AugmentConfig, CropConfig, DistillConfig, EncoderConfig, OptimizerConfig

TEACHER = EncoderConfig(stage_blocks=(1,), width=4)
CONFIG = DistillConfig(
    student=EncoderConfig(stage_blocks=(1,), width=3),
    augment=AugmentConfig(crop=CropConfig(size_px=16), jitter_strength=0.0),
    label_weight=0.25,
    batch_size=16,
    epochs=1,
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.01),
)
N_LABELED, N_UNLABELED = 42, 30


class StartedError(Exception):
    pass


def teacher_in(folder, *, classes, seed=3):
    """A classifier as FineTune leaves it, untrained."""
    model = heads.classifier_on(resnet.build_encoder(TEACHER, size_px=16, seed=seed), n_classes=len(classes))
    export.save_classifier(model, str(folder), encoder=TEACHER, classes=classes)
    return str(folder)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory, transformed):
    """FnArgs of a distillation into a folder of its own, all below one root of checkpoints."""
    root = tmp_path_factory.mktemp("distillation")
    write_examples(root / "unlabeled", class_images([0] * N_UNLABELED, size=32), labels=[0] * N_UNLABELED)
    classes = sorted({image.label for image in transformed.raw})

    def arguments(name, config=CONFIG, *, teacher=None, **changed):
        (root / name / "run").mkdir(parents=True)  # as the orchestrator does
        fn_args = FnArgs(
            train_files=[transformed.examples],
            eval_files=[transformed.examples],
            transform_graph_path=transformed.graph,
            serving_model_dir=str(root / name / "model"),
            model_run_dir=str(root / name / "run"),
            custom_config={
                "fraction": 0.5,
                "config": config.model_dump_json(),
                "seed": 0,
                "checkpoint_root": str(root / "checkpoints"),
                "code_version": "",
                "unlabeled_files": [str(root / "unlabeled*")],
                **changed,
            },
        )
        names = common.class_names(fn_args)
        assert sorted(names) == classes
        fn_args.base_model = teacher or teacher_in(root / name / "teacher", classes=names)
        return fn_args

    return arguments


@pytest.fixture(scope="module")
def distilled(arguments):
    fn_args = arguments("distilled")
    distillation.run_fn(fn_args)
    return fn_args


@pytest.fixture
def started(monkeypatch):
    """What `stages.distill` was called with; nothing is trained."""
    calls = []

    def start(config, files, **given):
        calls.append({"config": config, "files": files, **given})
        raise StartedError

    monkeypatch.setattr(stages, "distill", start)

    def run(fn_args):
        with pytest.raises(StartedError):
            distillation.run_fn(fn_args)
        return calls[-1]

    return run


def test_student_leaves_its_row_with_what_it_was_taught_by(distilled):
    with open(f"{distilled.model_run_dir}/rows.json") as file:
        (row,) = json.load(file)
    assert (row["arm"], row["label_fraction"], row["n_labels"], row["n_test"]) == ("distill", 0.5, N_LABELED, 42)
    assert row["settings"] == {
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "steps": (N_LABELED + N_UNLABELED) // 16,
        "batch_size": 16,
        "temperature": 0.1,
        "label_weight": 0.25,
    }
    predictions = np.load(f"{distilled.model_run_dir}/predictions.npz")
    hits = predictions["probabilities"].argmax(axis=1) == predictions["label_index"]
    assert row["top1"] == pytest.approx(hits.mean())
    with open(f"{distilled.model_run_dir}/history.csv") as file:
        assert {"loss", "agreement", "epoch", "learning_rate"} <= next(csv.DictReader(file)).keys()


def test_student_is_served_and_may_teach_in_its_turn(distilled, transformed):
    student, encoder, classes = export.load_classifier(distilled.serving_model_dir)
    assert encoder == CONFIG.student and list(classes) == common.class_names(distilled)
    scored = probes.classify(student, data.open_examples([transformed.examples]))
    expected = np.load(f"{distilled.model_run_dir}/predictions.npz")["probabilities"]
    np.testing.assert_allclose(scored.probabilities, expected, atol=1e-6)
    image_bytes = tf.constant([image.image_bytes for image in transformed.raw])
    served = tf.saved_model.load(distilled.serving_model_dir).signatures["serving_default"](image_bytes=image_bytes)
    rows = {key: index for index, key in enumerate(scored.key)}
    in_order = expected[[rows[image.key] for image in transformed.raw]]
    np.testing.assert_allclose(served["probabilities"], in_order, atol=1e-5)


def test_distillation_repeated_goes_on_from_its_finished_checkpoint(distilled, arguments, monkeypatch):
    again = arguments("again", teacher=distilled.base_model)
    steps = []
    monkeypatch.setattr(stages.loop, "_row", lambda *row: steps.append(row))
    distillation.run_fn(again)
    assert steps == []
    ours, theirs = (export.load_classifier(run.serving_model_dir)[0].get_weights() for run in (again, distilled))
    for value, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_another_distillation_never_finds_its_checkpoints(distilled, arguments, started, tmp_path):
    other = teacher_in(tmp_path, classes=common.class_names(distilled), seed=4)
    unlabeled = distilled.custom_config["unlabeled_files"]
    changes = {
        "the same": {"teacher": distilled.base_model},
        "teacher": {"teacher": other},
        "images": {"teacher": distilled.base_model, "unlabeled_files": [*unlabeled, *unlabeled]},
        "student": {"config": CONFIG.model_copy(update={"student": TEACHER}), "teacher": distilled.base_model},
        "code": {"teacher": distilled.base_model, "code_version": "2"},
        "seed": {"teacher": distilled.base_model, "seed": 1},
    }
    folders = [started(arguments(f"other {name}", **change))["checkpoint_dir"] for name, change in changes.items()]
    assert len(set(folders)) == len(changes)
    root = distilled.custom_config["checkpoint_root"]
    assert [folder for folder in folders if tf.io.gfile.exists(folder)] == [folders[0]]
    assert all(folder.startswith(root) for folder in folders)


@pytest.mark.parametrize(("label_weight", "n_labels"), [(0.0, 0), (0.25, N_LABELED)])
def test_labels_of_the_fraction_count_where_they_are_given_weight_and_no_others_ever(
    arguments, started, label_weight, n_labels
):
    config = CONFIG.model_copy(update={"label_weight": label_weight})
    files = started(arguments(f"labels {label_weight}", config))["files"]
    labels = [int(files.read(reference)["label"]) for reference in files.in_order()]
    assert len(labels) == N_UNLABELED + n_labels
    if label_weight:
        assert [label for label in labels if label == sources.UNLABELED] == [sources.UNLABELED] * N_UNLABELED


def test_teacher_of_other_classes_is_refused(arguments, tmp_path):
    other = teacher_in(tmp_path, classes=("ant", "bee"))
    with pytest.raises(ValueError, match=r"classes 'ant', 'bee', the labelled images have '.*; differing: '"):
        distillation.run_fn(arguments("refused", teacher=other))
