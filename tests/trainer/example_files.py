"""Tiny TFRecord files of canonical examples, as Transform writes them, and files of images."""

import numpy as np
import tensorflow as tf
from PIL import Image

from trainer import data


def random_images(count, *, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [count, height, width, 3], dtype=np.uint8)


def class_images(labels, *, size=8, seed=0):
    """Images whose class is plain to see: each has a colour of its own, under noise."""
    generator = np.random.default_rng(seed)
    colors = np.random.default_rng(99).integers(40, 216, [1 + max(labels), 1, 1, 3])
    noise = generator.integers(-30, 31, [len(labels), size, size, 3])
    return np.clip(colors[list(labels)] + noise, 0, 255).astype(np.uint8)


def write_examples(path, images, *, labels=None, keys=None):
    """Writes one file and opens it."""
    keys = keys or [f"image-{index:03d}" for index in range(len(images))]
    options = "GZIP" if str(path).endswith(".gz") else None
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for index, image in enumerate(images):
            feature = {"image": _bytes(tf.io.encode_png(image).numpy()), "key": _bytes(keys[index].encode())}
            if labels is not None:
                feature["label_index"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[labels[index]]))
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return data.open_examples([str(path)])


def _bytes(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    file_format = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    Image.fromarray(image).save(path, file_format)


def read_all(files):
    return [files.read(reference) for reference in files.in_order()]
