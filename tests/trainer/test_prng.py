import numpy as np
import pytest
import tensorflow as tf
from threefry_oracle import KNOWN_ANSWERS, threefry

from trainer import prng

KEYS = tf.constant(np.random.default_rng(1).integers(0, 2**32, [64, 2]), tf.uint32)


@pytest.mark.parametrize(("key", "counter", "answer"), KNOWN_ANSWERS)
def test_threefry_known_answer_vectors_are_those_of_random123(key, counter, answer):
    output = prng.threefry2x32(tf.constant(key, tf.uint32), tf.constant(counter, tf.uint32))
    assert tuple(output.numpy()) == answer
    assert threefry(key, counter) == answer


def test_threefry_random_inputs_equal_the_oracle():
    counters = KEYS[::-1]
    outputs = prng.threefry2x32(KEYS, counters).numpy()
    for key, counter, output in zip(KEYS.numpy().tolist(), counters.numpy().tolist(), outputs, strict=True):
        assert tuple(output) == threefry(key, counter)


def test_uniform_eager_graph_and_xla_are_bit_identical():
    def draw(keys):
        return prng.uniform(keys, count=7, stream=3)

    eager = draw(KEYS).numpy()
    np.testing.assert_array_equal(tf.function(draw)(KEYS), eager)
    np.testing.assert_array_equal(tf.function(draw, jit_compile=True)(KEYS), eager)


def test_uniform_values_fill_the_half_open_unit_interval_evenly():
    keys = prng.view_keys(tf.range(2000, dtype=tf.int64), seed=0, epoch=0, view=0)
    values = prng.uniform(keys, count=10, stream=0).numpy()
    assert values.min() >= 0 and values.max() < 1
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    # Each bin holds 1000 ± 31; five standard deviations.
    np.testing.assert_allclose(counts, 1000, atol=155)


def test_uniform_largest_bits_stay_below_one(monkeypatch):
    monkeypatch.setattr(
        prng, "threefry2x32", lambda key, counter: tf.fill(tf.shape(key + counter), tf.constant(2**32 - 1, tf.uint32))
    )
    assert prng.uniform(KEYS, count=1, stream=0).numpy().max() == 1 - 2**-24


def test_uniform_streams_and_counts_do_not_repeat():
    values = np.concatenate([prng.uniform(KEYS, count=4, stream=stream).numpy().ravel() for stream in range(6)])
    # 1536 draws of 24 bits collide 0.07 times on average; repeating streams would collide hundreds of times.
    assert len(values) - len(np.unique(values)) <= 3


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_chosen_is_the_share_whose_number_lies_below_the_probability(probability):
    chosen = prng.chosen(KEYS, probability=probability, stream=2).numpy()
    np.testing.assert_array_equal(chosen, prng.uniform(KEYS, count=1, stream=2)[:, 0] < probability)


def test_view_keys_change_with_each_of_seed_epoch_view_and_example():
    example = tf.constant([5, 2**33 + 5], tf.int64)
    base = prng.view_keys(example, seed=1, epoch=2, view=0).numpy()
    assert (base[0] != base[1]).any(), "the high word of the example's key is part of it"
    for other in (
        prng.view_keys(example, seed=2, epoch=2, view=0),
        prng.view_keys(example, seed=1, epoch=3, view=0),
        prng.view_keys(example, seed=1, epoch=2, view=1),
    ):
        assert (other.numpy() != base).any(axis=1).all()


def test_view_keys_scalar_epoch_equals_an_epoch_per_example():
    examples = tf.range(3, dtype=tf.int64)
    mixed = prng.view_keys(examples, seed=7, epoch=tf.constant([4, 5, 4], tf.int64), view=1).numpy()
    four = prng.view_keys(examples, seed=7, epoch=4, view=1).numpy()
    np.testing.assert_array_equal(mixed[[0, 2]], four[[0, 2]])
    assert (mixed[1] != four[1]).any()


def test_split_int64_negative_value_keeps_its_two_words():
    words = prng.split_int64(tf.constant([-1, 1 << 32], tf.int64)).numpy()
    np.testing.assert_array_equal(words, [[2**32 - 1, 2**32 - 1], [0, 1]])
