"""Tiny SavedModels with a known number of mistakes, and test images for them, in local folders or on gs://."""

import json

import tensorflow as tf

CLASSES = ["ant", "bee", "cat"]
N_IMAGES = 20


def image(label_index, rank):
    """An "encoded image": its class, and how hard it is."""
    return bytes([label_index, rank])


class Guesser(tf.Module):
    """Names the class, save for the images with a rank below `mistakes`."""

    def __init__(self, *, mistakes, n_classes):
        super().__init__()
        self.n_classes = n_classes
        self.mistakes = tf.Variable(mistakes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        columns = tf.cast(tf.io.decode_raw(image_bytes, tf.uint8, fixed_length=2), tf.int32)
        wrong = tf.cast(columns[:, 1] < self.mistakes, tf.int32)
        return {"probabilities": tf.one_hot((columns[:, 0] + wrong) % self.n_classes, self.n_classes)}


def save_model(directory, *, mistakes, classes=CLASSES):
    module = Guesser(mistakes=mistakes, n_classes=len(classes))
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    extra = tf.io.gfile.join(str(directory), "assets.extra")
    tf.io.gfile.makedirs(extra)
    with tf.io.gfile.GFile(tf.io.gfile.join(extra, "classes.json"), "w") as file:
        file.write(json.dumps(classes))
    return str(directory)


def save_pretrained(directory, *, start="scratch"):
    """What Pretrain leaves of its encoder and head, as far as a push looks at it."""
    extra = tf.io.gfile.join(str(directory), "assets.extra")
    tf.io.gfile.makedirs(extra)
    for name in ("encoder.safetensors", "head.safetensors", "encoder.json", "head.json"):
        with tf.io.gfile.GFile(tf.io.gfile.join(extra, name), "w") as file:
            file.write(f"the {name}")
    told = {"start": start, "words": "", "from_version": None, "weights": None, "digest": None, "encoder": "abc"}
    with tf.io.gfile.GFile(tf.io.gfile.join(extra, "start.json"), "w") as file:
        file.write(json.dumps(told))
    return str(directory)


def write_test_split(directory, n_images=N_IMAGES, *, key="image-{}".format, classes=CLASSES):
    path = tf.io.gfile.join(str(directory), "data_tfrecord-00000-of-00001.gz")
    tf.io.gfile.makedirs(str(directory))
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for rank in range(n_images):
            example = tf.train.Example()
            example.features.feature["image_bytes"].bytes_list.value.append(image(rank % len(classes), rank))
            example.features.feature["key"].bytes_list.value.append(key(rank).encode())
            example.features.feature["label"].bytes_list.value.append(classes[rank % len(classes)].encode())
            writer.write(example.SerializeToString())
    return str(directory)
