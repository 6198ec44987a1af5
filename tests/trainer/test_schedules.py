import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import schedules


def rates(peak, *, warmup_steps, total_steps):
    schedule = schedules.warmup_cosine(peak, warmup_steps=warmup_steps, total_steps=total_steps)
    return [float(schedule(step)) for step in range(total_steps + 1)]


def test_warmup_cosine_rises_linearly_and_falls_by_a_half_cosine():
    np.testing.assert_allclose(
        rates(8.0, warmup_steps=4, total_steps=8),
        # 4·(1 + cos(k·45°)) after the four steps of the warm-up
        [2, 4, 6, 8, 8, 4 + 8**0.5, 4, 4 - 8**0.5, 0],
        atol=1e-5,
    )


def test_warmup_cosine_without_warmup_starts_at_the_peak():
    np.testing.assert_allclose(rates(1.0, warmup_steps=0, total_steps=2), [1, 0.5, 0], atol=1e-6)


def test_warmup_cosine_all_warmup_ends_at_the_peak():
    np.testing.assert_allclose(rates(3.0, warmup_steps=3, total_steps=3)[:3], [1, 2, 3], rtol=1e-6)


def test_warmup_cosine_past_the_end_does_not_restart():
    schedule = schedules.warmup_cosine(1.0, warmup_steps=1, total_steps=5)
    assert float(schedule(7)) == float(schedule(100)) == 0.0


def test_warmup_cosine_longer_than_the_training_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="6 steps does not fit into 5"):
        schedules.warmup_cosine(1.0, warmup_steps=6, total_steps=5)


def test_warmup_cosine_int64_step_under_xla_gives_the_same_rate():
    schedule = schedules.warmup_cosine(0.5, warmup_steps=2, total_steps=9)
    compiled = tf.function(schedule, jit_compile=True)
    for step in range(10):
        assert float(compiled(tf.constant(step, tf.int64))) == pytest.approx(float(schedule(step)), abs=1e-7)


def test_warmup_cosine_config_round_trip_gives_the_same_rates():
    schedule = schedules.warmup_cosine(0.5, warmup_steps=2, total_steps=9)
    serialized = tf_keras.optimizers.schedules.serialize(schedule)
    twin = tf_keras.optimizers.schedules.deserialize(serialized)
    assert [float(twin(step)) for step in range(10)] == [float(schedule(step)) for step in range(10)]


def test_warmup_constant_rises_linearly_and_stays():
    schedule = schedules.warmup_constant(8.0, warmup_steps=4)
    assert [float(schedule(step)) for step in (0, 1, 2, 3, 4, 10**6)] == [2, 4, 6, 8, 8, 8]


def test_warmup_constant_without_warmup_is_constant():
    schedule = schedules.warmup_constant(0.5, warmup_steps=0)
    assert float(schedule(0)) == float(schedule(9)) == 0.5


def test_warmup_constant_negative_warmup_is_refused():
    with pytest.raises(ValueError, match="warm-up of -1 steps: must be 0 or more"):
        schedules.warmup_constant(1.0, warmup_steps=-1)


def test_warmup_constant_config_round_trip_gives_the_same_rates():
    schedule = schedules.warmup_constant(0.5, warmup_steps=3)
    twin = tf_keras.optimizers.schedules.deserialize(tf_keras.optimizers.schedules.serialize(schedule))
    assert [float(twin(step)) for step in range(5)] == [float(schedule(step)) for step in range(5)]
