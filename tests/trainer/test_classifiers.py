import distillation_oracle
import numpy as np
import pytest
import tensorflow as tf
from example_files import class_images, write_examples

from trainer import classifiers, data, embeddings, heads, loop, resnet, views
from trainer.config import (
    AugmentConfig,
    ClassifierConfig,
    ComputeConfig,
    CropConfig,
    DistillConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
)

TINY = EncoderConfig(stage_blocks=(1,), width=4)
CROP = AugmentConfig(crop=CropConfig(min_area=0.8), jitter_strength=0.0, grayscale_probability=0.0)
ADAMW = OptimizerConfig(name="adamw", learning_rate=0.03)
LABELS = [index % 4 for index in range(20)]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"
)


def assert_equal_weights(ours, expected):
    for value, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "examples.gz"
    return write_examples(path, class_images(LABELS), labels=LABELS)


@pytest.fixture(scope="module")
def encoder():
    """Of another seed than the trainings': it stands for a pretrained one."""
    return resnet.build_encoder(TINY, size_px=8, seed=1)


@pytest.fixture(scope="module")
def projection():
    return heads.projection_head(HeadConfig(output_dim=8), input_dim=4, seed=1)


def train_classifier(files, *, steps=60, optimizer=ADAMW, head_layer=0, **settings):
    config = ClassifierConfig(
        augment=CROP,
        batch_size=20,
        steps=steps,
        optimizer=optimizer,
        head_layer=head_layer,
        checkpoint_every_steps=2,
    )
    defaults = {"seed": 2, "encoder_config": TINY, "size_px": 8, "n_classes": 4}
    return classifiers.train_classifier(config, files, **defaults | settings)


def accuracy(classifier, files):
    (batch,) = embeddings.predictions(classifier.model, data.evaluation_batches(files, size_px=8))
    return (batch["output"][0].numpy().argmax(axis=1) == batch["label"].numpy()).mean()


@pytest.fixture(scope="module")
def finetuned(files, encoder):
    before = encoder.get_weights()
    return train_classifier(files, pretrained=encoder), before


def test_train_classifier_overfits_twenty_images(files, finetuned):
    classifier, _ = finetuned
    assert accuracy(classifier, files) == 1.0
    assert classifier.history.rows[-1]["loss"] < 0.3 * classifier.history.rows[0]["loss"]


def test_train_classifier_leaves_the_pretrained_encoder_as_it_was(finetuned, encoder):
    classifier, before = finetuned
    assert_equal_weights(encoder.get_weights(), before)
    assert not np.array_equal(classifier.model.get_weights()[0], before[0])


@pytest.mark.usefixtures("eager")
def test_train_classifier_starts_from_the_pretrained_weights(files, encoder):
    still = OptimizerConfig(name="sgd", learning_rate=1e-30)
    started = train_classifier(files, pretrained=encoder, steps=1, optimizer=still)
    kernels = [v for v in started.model.trainable_variables if v.shape.rank == 4]
    expected = [v for v in encoder.trainable_variables if v.shape.rank == 4]
    assert_equal_weights(kernels, expected)


@pytest.mark.usefixtures("eager")
def test_train_classifier_from_scratch_starts_from_the_seed(files):
    still = OptimizerConfig(name="sgd", learning_rate=1e-30)
    started = train_classifier(files, steps=1, optimizer=still)
    expected = resnet.build_encoder(TINY, size_px=8, seed=2)
    assert_equal_weights(started.model.trainable_variables[:1], expected.trainable_variables[:1])
    assert started.history.rows[0]["loss"] == pytest.approx(np.log(4), rel=1e-5)  # the head starts at zero


def test_train_classifier_repeat_gives_identical_weights(files):
    one, two = (train_classifier(files, steps=5).model.get_weights() for _ in range(2))
    assert_equal_weights(one, two)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.usefixtures("eager")
def test_train_classifier_every_optimizer_moves_encoder_and_head(files, name):
    optimizer = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.01)
    classifier = train_classifier(files, steps=3, optimizer=optimizer)
    assert classifier.model.get_layer("logits").kernel.numpy().any()
    assert np.isfinite(classifier.history.rows[-1]["loss"])
    start = resnet.build_encoder(TINY, size_px=8, seed=2)
    assert not np.array_equal(classifier.model.get_weights()[0], start.get_weights()[0])


def test_train_classifier_lars_does_not_adapt_its_head(files):
    # With a ratio of about 0.001 the second and third steps would hardly add to the first.
    optimizer = OptimizerConfig(name="lars", learning_rate=0.1)
    steps = [train_classifier(files, steps=100, optimizer=optimizer)]
    assert np.abs(steps[0].model.get_layer("logits").kernel.numpy()).max() > 0.3


@pytest.mark.usefixtures("eager")
def test_train_classifier_batch_larger_than_the_set_takes_all_of_it(tmp_path):
    files = write_examples(tmp_path / "few", class_images([0, 1, 2]), labels=[0, 1, 2])
    classifier = train_classifier(files, steps=2, n_classes=3)
    assert [row["epoch"] for row in classifier.history.rows] == [1.0, 2.0]


@pytest.mark.usefixtures("eager")
def test_linear_evaluation_moves_the_classifier_and_no_variable_of_the_encoder(files, encoder):
    before = encoder.get_weights()
    probe = train_classifier(files, pretrained=encoder, frozen=True, steps=4)
    logits = probe.model.get_layer(heads.LOGITS)
    in_probe = [weight for layer in probe.model.layers if layer is not logits for weight in layer.get_weights()]
    assert_equal_weights(in_probe, before)
    assert_equal_weights(encoder.get_weights(), before)
    assert logits.kernel.numpy().any()


@pytest.mark.usefixtures("eager")
def test_finetuning_from_the_middle_of_the_head_starts_with_its_layer_and_tunes_it(files, encoder, projection):
    def first_layer_after(steps, learning_rate):
        optimizer = OptimizerConfig(name="sgd", learning_rate=learning_rate)
        of_pretraining = {"pretrained": encoder, "pretrained_head": projection}
        tuned = train_classifier(files, head_layer=1, steps=steps, optimizer=optimizer, **of_pretraining)
        return tuned.model.get_layer("projection0").kernel

    start = projection.get_layer("projection0").kernel
    np.testing.assert_array_equal(first_layer_after(steps=1, learning_rate=1e-30), start)
    assert not np.array_equal(first_layer_after(steps=4, learning_rate=0.05), start)


def test_head_layer_without_a_head_is_refused(files):
    with pytest.raises(ValueError, match="head_layer 1"):
        train_classifier(files, head_layer=1)


@pytest.mark.usefixtures("eager")
def test_training_falls_back_on_the_checkpoint_before_a_broken_one(files, tmp_path):
    train_classifier(files, steps=5, checkpoint_dir=str(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.index")) == ["ckpt-4.index", "ckpt-5.index"]
    (tmp_path / "ckpt-5.index").write_bytes(b"")
    seen = []
    train_classifier(files, steps=5, checkpoint_dir=str(tmp_path), report=seen.append)
    assert [progress.step for progress in seen] == [5]


@pytest.mark.usefixtures("eager")
def test_training_of_another_classifier_does_not_go_on_and_says_what_differs(files, encoder, projection, tmp_path):
    def train(files=files, **changed):
        start = {"pretrained": encoder, "pretrained_head": projection, "head_layer": 1, "steps": 1}
        return train_classifier(files, checkpoint_dir=str(tmp_path / "checkpoints"), **start | changed)

    expected = train().model.get_weights()
    others = {
        "images.examples": {
            "files": write_examples(tmp_path / "others", class_images(LABELS, seed=1), labels=LABELS)
        },
        "encoder.norm": {"encoder_config": TINY.model_copy(update={"norm": "local_batch"})},
        "size_px": {"size_px": 16},
        "n_classes": {"n_classes": 5},
        "pretrained": {"pretrained": resnet.build_encoder(TINY, size_px=8, seed=3)},
        "kept_head": {"pretrained_head": heads.projection_head(HeadConfig(output_dim=8), input_dim=4, seed=3)},
        "frozen": {"frozen": True},
    }
    for field, changed in others.items():
        with pytest.raises(ValueError, match=f"are of another training:\n  {field}: .* there, .* here\ngive"):
            train(**changed)
    assert_equal_weights(train().model.get_weights(), expected)


@pytest.fixture(scope="module")
def teacher(finetuned):
    return finetuned[0].model


def distilled(files, teacher, *, checkpoint_dir=None, **settings):
    defaults = {
        "student": TINY,
        "augment": CROP,
        "temperature": 1.0,
        "batch_size": 20,
        "epochs": 60,
        "optimizer": ADAMW,
    }
    config = DistillConfig(**defaults | settings)
    return classifiers.distill(config, files, seed=5, teacher=teacher, checkpoint_dir=checkpoint_dir)


def test_student_learns_its_teachers_answers_without_labels(files, teacher):
    before = teacher.get_weights()
    student = distilled(files, teacher)
    assert student.history.rows[-1]["agreement"] > 0.9 > student.history.rows[0]["agreement"]
    assert_equal_weights(teacher.get_weights(), before)


def test_distillation_on_replicas_has_its_teacher_in_their_scope(files, teacher, monkeypatch):
    class SeenError(Exception):
        pass

    def look(config, model, optimizer, *, teacher, seed):
        extended = tf.distribute.get_strategy().extended
        raise SeenError([extended.variable_created_in_scope(variable) for variable in teacher.variables])

    monkeypatch.setattr(classifiers, "distill_step", look)
    with pytest.raises(SeenError) as seen:
        distilled(files, teacher, compute=ComputeConfig(strategy="mirrored"))
    assert seen.value.args[0] == [True] * len(teacher.variables)


def test_student_learns_with_the_defaults_optimizer_and_temperature(files, teacher):
    defaults = DistillConfig()
    student = distilled(files, teacher, temperature=defaults.temperature, optimizer=defaults.optimizer)
    assert student.history.rows[-1]["agreement"] > 0.8


def test_distillation_by_labels_alone_is_supervised_training(files, teacher):
    student = distilled(files, teacher, label_weight=1.0, epochs=60)
    assert accuracy(student, files) > 0.9


@pytest.mark.usefixtures("eager")
def test_distillation_weighs_labels_and_teacher_on_the_same_crop(files, teacher):
    config = DistillConfig(student=TINY, augment=CROP, temperature=0.5, label_weight=0.25, optimizer=ADAMW)
    student = heads.classifier_on(resnet.build_encoder(TINY, size_px=8, seed=3), n_classes=4)
    student.get_layer(heads.LOGITS).kernel.assign(np.random.default_rng(0).normal(size=[4, 4]))
    (batch,) = data.training_batches(files, batch_size=20, epochs=1, seed=5)
    crops = views.single_maker(CROP, size_px=8, seed=5)(batch)
    taught, logits = teacher(crops, training=False)[0].numpy(), student(crops, training=True)[0].numpy()
    likelihood = tf.nn.log_softmax(logits).numpy()[np.arange(20), batch["label"]]
    imitation = distillation_oracle.distillation(logits, taught, 0.5)
    optimizer = loop.build_optimizer(ADAMW, student.trainable_variables, batch_size=20, total_steps=1)
    step = classifiers.distill_step(config, student, optimizer, teacher=teacher, seed=5)
    expected = 0.75 * 0.5**2 * imitation - 0.25 * likelihood.mean()
    assert float(step(batch)["loss"]) == pytest.approx(expected, rel=1e-4)
    assert abs(imitation + likelihood.mean()) > 0.1, "equal halves would hide their weights"


@pytest.mark.usefixtures("eager")
def test_distillation_keeps_as_many_checkpoints_as_configured(files, teacher, tmp_path):
    often = {"checkpoint_every_steps": 1, "kept_checkpoints": 3}
    distilled(files, teacher, checkpoint_dir=str(tmp_path), epochs=4, **often)
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [f"ckpt-{step}.index" for step in (2, 3, 4)]


@pytest.mark.usefixtures("eager")
def test_distillation_from_others_does_not_go_on_and_says_what_differs(files, tmp_path):
    def teacher(*, size_px=8, n_classes=4, seed=1):
        encoder = resnet.build_encoder(TINY, size_px=size_px, seed=seed)
        return heads.classifier_on(encoder, n_classes=n_classes)

    def distill(files=files, **changed):
        return distilled(files, teacher(**changed), checkpoint_dir=str(tmp_path / "checkpoints"), epochs=1)

    expected = distill().model.get_weights()
    unlabeled = write_examples(tmp_path / "unlabeled", class_images(LABELS))
    others = {
        "images.examples": {"files": unlabeled},
        "size_px": {"size_px": 16},
        "teacher": {"seed": 2},
        "n_classes": {"n_classes": 5},
    }
    for field, changed in others.items():
        with pytest.raises(ValueError, match=f"are of another training:\n  {field}: .* there, .* here\n"):
            distill(**changed)
    assert_equal_weights(distill().model.get_weights(), expected)
