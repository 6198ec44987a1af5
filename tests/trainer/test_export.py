import io
import json

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tf_keras
from example_files import random_images
from PIL import Image

from trainer import export, heads, images, resnet
from trainer.config import EncoderConfig

CONFIG = EncoderConfig(stage_blocks=(1,), width=4)
SIZE_PX = 8
CLASSES = ["ant", "bee", "çay"]


class Preprocessing(tf.Module):
    """Stands in for Transform's layer: it holds a variable as that may, and takes a column of bytes."""

    def __init__(self):
        super().__init__()
        self.short_side_px = tf.Variable(SIZE_PX)

    def __call__(self, features):
        column = tf.reshape(features["image_bytes"], [-1])
        return {"image": images.canonical_png(column, short_side_px=self.short_side_px)}


def encoder_with_statistics():
    """An encoder none of whose variables has its initial value."""
    encoder = resnet.build_encoder(CONFIG, size_px=SIZE_PX, seed=3)
    generator = np.random.default_rng(0)
    for variable in encoder.weights:
        variable.assign(variable + tf.constant(generator.uniform(0.01, 0.5, variable.shape), tf.float32))
    return encoder


def classifier():
    encoder = encoder_with_statistics()
    head = heads.classification_head(len(CLASSES))
    model = tf_keras.Model(encoder.input, [head(encoder.output), encoder.output])
    head.kernel.assign(0.03 * tf.random.stateless_normal([4, len(CLASSES)], [0, 1]))
    return model


def encoded(image, file_format):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format)
    return buffer.getvalue()


ENCODED = [
    encoded(random_images(1, height=8, width=8)[0], "PNG"),
    encoded(random_images(1, height=31, width=17)[0], "JPEG"),
    encoded(random_images(1, height=5, width=40)[0], "PNG"),
]


def seen_by_the_network():
    pngs = images.canonical_png(tf.constant(ENCODED), short_side_px=tf.constant(SIZE_PX))
    return tf.stack([images.evaluation_view(images.decode_png(png), size_px=SIZE_PX) for png in pngs])


@pytest.fixture(scope="module")
def served_encoder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("encoder"))
    export.save_served(export.ServedEncoder(encoder_with_statistics(), Preprocessing()), path)
    return tf.saved_model.load(path)


@pytest.fixture(scope="module")
def served_classifier(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("classifier"))
    export.save_served(export.ServedClassifier(classifier(), Preprocessing(), classes=CLASSES), path)
    return tf.saved_model.load(path)


def test_saved_encoder_is_loaded_to_the_bit(tmp_path):
    encoder = encoder_with_statistics()
    export.save_encoder(encoder, CONFIG, str(tmp_path))
    loaded, config = export.load_encoder(str(tmp_path))
    assert config == CONFIG and loaded.input_shape == encoder.input_shape
    assert [variable.name for variable in loaded.weights] == [variable.name for variable in encoder.weights]
    for variable, expected in zip(loaded.weights, encoder.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_saved_encoder_built_second_in_a_process_is_loaded_by_its_names(tmp_path):
    resnet.build_encoder(CONFIG, size_px=SIZE_PX, seed=0)
    encoder = encoder_with_statistics()
    export.save_encoder(encoder, CONFIG, str(tmp_path))
    loaded, _ = export.load_encoder(str(tmp_path))
    np.testing.assert_array_equal(loaded.get_weights()[-1], encoder.get_weights()[-1])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda tensors: tensors.pop("stem_conv/kernel"), "stem_conv/kernel"),
        (lambda tensors: tensors.update({"extra": np.zeros(2, np.float32)}), "extra"),
        (lambda tensors: tensors.update({"stem_norm/beta": np.zeros(5, np.float32)}), "stem_norm/beta"),
    ],
)
def test_weights_that_do_not_fit_the_description_are_refused_by_name(tmp_path, damage, named):
    export.save_encoder(encoder_with_statistics(), CONFIG, str(tmp_path))
    path = tmp_path / "assets.extra" / "encoder.safetensors"
    tensors = safetensors.numpy.load_file(path)
    damage(tensors)
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=named):
        export.load_encoder(str(tmp_path))


def test_saved_encoder_of_any_size_is_loaded_as_such(tmp_path):
    encoder = resnet.build_encoder(CONFIG, size_px=None, seed=3)
    export.save_encoder(encoder, CONFIG, str(tmp_path))
    loaded, config = export.load_encoder(str(tmp_path))
    assert config == CONFIG and loaded.input_shape == (None, None, None, 3)
    assert loaded.get_layer("stem_conv").kernel_size == (7, 7)
    np.testing.assert_array_equal(loaded.get_weights()[0], encoder.get_weights()[0])


def test_model_of_any_size_is_served_at_the_given_one_and_at_none_not():
    encoder = resnet.build_encoder(CONFIG.model_copy(update={"stem": "small"}), size_px=None, seed=3)
    served = export.ServedEncoder(encoder, Preprocessing(), size_px=SIZE_PX)
    assert served.preprocess(tf.constant(ENCODED))["image"].shape == (3, SIZE_PX, SIZE_PX, 3)
    with pytest.raises(ValueError, match="size_px None"):
        export.ServedEncoder(encoder, Preprocessing())


def test_weights_of_another_width_are_refused(tmp_path):
    wide = EncoderConfig(stage_blocks=(1,), width=5)
    export.save_encoder(encoder_with_statistics(), wide, str(tmp_path))
    with pytest.raises(ValueError, match=r"weights do not fit the network.*misshapen: stage0"):
        export.load_encoder(str(tmp_path))


def test_served_encoder_gives_what_the_model_gives_on_encoded_bytes(served_encoder):
    assert set(served_encoder.signatures) == {"serving_default", "embed", "preprocess"}
    expected = encoder_with_statistics()(seen_by_the_network(), training=False)
    for name in ("serving_default", "embed"):
        output = served_encoder.signatures[name](image_bytes=tf.constant(ENCODED))
        np.testing.assert_allclose(output["embedding"], expected, atol=1e-5)


def test_served_preprocessing_gives_the_tensor_of_the_evaluation(served_encoder, served_classifier):
    for served in (served_encoder, served_classifier):
        output = served.signatures["preprocess"](image_bytes=tf.constant(ENCODED))
        np.testing.assert_allclose(output["image"], seen_by_the_network(), atol=1e-6)


def test_served_classifier_gives_what_the_model_gives_on_encoded_bytes(served_classifier):
    logits, h = classifier()(seen_by_the_network(), training=False)
    output = served_classifier.signatures["serving_default"](image_bytes=tf.constant(ENCODED))
    np.testing.assert_allclose(output["probabilities"], tf.nn.softmax(logits), atol=1e-5)
    assert output["probabilities"].numpy().max() < 0.9, "a saturated softmax would hide a wrong one"
    np.testing.assert_allclose(output["embedding"], h, atol=1e-5)
    assert output["label"].numpy().tolist() == [CLASSES[i].encode() for i in np.argmax(logits, axis=1)]
    embedded = served_classifier.signatures["embed"](image_bytes=tf.constant(ENCODED))
    np.testing.assert_allclose(embedded["embedding"], h, atol=1e-5)


def test_served_classifier_takes_one_input_so_that_files_can_be_sent_without_its_name(served_classifier):
    # As Vertex AI's batch prediction sends them: TensorFlow Serving knows an input without a name only where one is.
    _, inputs = served_classifier.signatures["serving_default"].structured_input_signature
    assert {name: spec.dtype for name, spec in inputs.items()} == {"image_bytes": tf.string}


def test_served_classifier_single_images_equal_the_batch(served_classifier):
    classify = served_classifier.signatures["serving_default"]
    together = classify(image_bytes=tf.constant(ENCODED))["probabilities"]
    alone = [classify(image_bytes=tf.constant([image]))["probabilities"][0] for image in ENCODED]
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_served_classifier_translates_labels_and_marks_unknown_ones(served_classifier):
    labels = tf.constant(["çay", "ant", "wasp"])
    output = served_classifier.signatures["transformed_labels"](label=labels)
    assert output["label_index"].numpy().tolist() == [2, 0, -1]


def test_served_classifier_broken_bytes_are_an_error(served_classifier):
    with pytest.raises(tf.errors.InvalidArgumentError):
        served_classifier.signatures["serving_default"](image_bytes=tf.constant([b"not an image"]))


def test_saved_classes_keep_order_and_alphabet(tmp_path):
    export.save_classes(CLASSES, str(tmp_path))
    assert json.loads((tmp_path / "assets.extra" / "classes.json").read_text(encoding="utf-8")) == CLASSES
