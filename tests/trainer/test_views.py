import functools

import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images
from example_views import EPOCH, SEED, example_keys, views_of

from infra.tpu.replicas import TracedReplicas
from trainer import augment, views
from trainer.config import AugmentConfig

CONFIG = AugmentConfig(jitter_strength=0.0, grayscale_probability=0.5)  # quick to compile


def batch_of(n_images):
    return {
        "image": tf.constant(random_images(n_images, height=10, width=10)),
        "size": tf.fill([n_images, 2], 10),
        "key": example_keys(n_images),
        "epoch": tf.fill([n_images], tf.constant(EPOCH, tf.int64)),
    }


def test_makers_give_the_views_of_augment_at_the_networks_size():
    batch, sized = batch_of(6), CONFIG.model_copy(update={"crop": CONFIG.crop.model_copy(update={"size_px": 8})})
    expected = views_of(batch["image"], sized)
    pair = views.pair_maker(CONFIG, size_px=8, seed=SEED)(batch)
    for ours, view in zip(pair, expected, strict=True):
        np.testing.assert_allclose(ours, view, atol=1e-5)
    np.testing.assert_allclose(views.single_maker(CONFIG, size_px=8, seed=SEED)(batch), expected[0], atol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "by_taps"),
    [
        (tf.distribute.get_strategy, True),
        (functools.partial(tf.distribute.MirroredStrategy, ["cpu:0"]), True),
        (functools.partial(TracedReplicas, 8), False),
    ],
    ids=["default", "mirrored", "tpu"],
)
@pytest.mark.parametrize("maker", [views.pair_maker, views.single_maker])
def test_makers_crop_by_taps_on_cpus_and_by_matrices_on_tpus(monkeypatch, maker, strategy, by_taps):
    chosen = []

    def note(images, *_, by_taps, **__):
        chosen.append(by_taps)
        return tf.zeros_like(images)

    monkeypatch.setattr(augment, "two_views", note)
    monkeypatch.setattr(augment, "one_view", note)
    with strategy().scope():
        maker(CONFIG, size_px=8, seed=SEED)(batch_of(2))
    assert chosen == [by_taps]
