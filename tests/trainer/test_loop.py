import killed_training
import numpy as np
import pytest
import tensorflow as tf

from trainer import checkpoints, loop, schedules
from trainer.config import OptimizerConfig


def test_train_reports_its_progress():
    seen = []
    killed_training.run(report=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert all(progress.total_steps == 12 and progress.images_per_s > 0 for progress in seen)
    assert seen[0].metrics.keys() == {"step", "epoch", "loss", "learning_rate"}


def test_train_speed_and_waiting_are_those_after_the_first_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def batches(first_step, _):
        for number in range(12):
            now[0] += 100.0 if number == 0 else 1.0  # the input takes a second a step
            yield killed_training.batch_of(number)

    def compute(done, row):
        now[0] += 100.0 if done == 1 else 3.0

    history = train_on(batches, watch=compute)
    assert [row["input_wait_share"] for row in history.rows[2:4]] == [0.4, pytest.approx(3 / 9, abs=1e-4)]
    assert history.rows[2]["images_per_s"] == pytest.approx(2 * 3 / 5, abs=0.05)


def train_on(batches, *, step=lambda batch: {"loss": tf.reduce_mean(batch["x"])}, total_steps=12, **settings):
    variable = tf.Variable(1.0)
    config = OptimizerConfig(name="sgd", learning_rate=0.1)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=total_steps)
    return loop.train(
        step,
        batches,
        trackables={},
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=4,
        batch_size=3,
        **settings,
    )


def test_train_batches_that_end_too_early_are_an_error():
    with pytest.raises(ValueError, match="ended after step 5 of 12"):
        train_on(lambda *_: map(killed_training.batch_of, range(5)))


def test_train_step_is_compiled_where_told():
    def step(batch):  # XLA has no strings
        return {"loss": tf.strings.to_number(tf.strings.as_string(tf.reduce_mean(batch["x"])))}

    train_on(lambda *_: map(killed_training.batch_of, range(12)), step=step)
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
        train_on(lambda *_: map(killed_training.batch_of, range(12)), step=step, jit_compile=True)
    compiled = train_on(lambda *_: map(killed_training.batch_of, range(12)), jit_compile=True)
    plain = train_on(lambda *_: map(killed_training.batch_of, range(12)))
    assert [row["loss"] for row in compiled.rows] == pytest.approx([row["loss"] for row in plain.rows], abs=1e-6)


def test_train_watch_sees_every_step_and_the_logged_rows():
    seen = []
    history = train_on(
        lambda *_: (killed_training.batch_of(0) for _ in range(401)),
        total_steps=401,
        watch=lambda done, row: seen.append((done, row)),
    )
    assert [done for done, _ in seen] == list(range(1, 402))
    assert [row["step"] for _, row in seen if row] == [row["step"] for row in history.rows]


def numbers(total_steps):
    dataset = tf.data.Dataset.range(1, total_steps + 1)
    return lambda first_step, _: ({"number": number} for number in dataset.skip(first_step))


def losses_become_nan(*, at, total_steps, checkpoint_dir=None, every_steps=1):
    variable = tf.Variable(1.0)
    config = OptimizerConfig(name="sgd", learning_rate=0.1)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=total_steps)

    def step(batch):
        optimizer.apply_gradients([(tf.constant(0.0), variable)])
        return {"loss": tf.where(batch["number"] >= at, float("nan"), 1.0)}

    return loop.train(
        step,
        numbers(total_steps),
        trackables={"variable": variable},
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=10,
        batch_size=1,
        saving=checkpoint_dir and checkpoints.Saving(checkpoint_dir, every_steps=every_steps),
    )


def test_train_loss_that_is_not_finite_stops_it_with_step_and_remedy():
    with pytest.raises(FloatingPointError, match="nan at step 3: lower the learning rate"):
        losses_become_nan(at=3, total_steps=10)


def test_train_loss_that_is_not_finite_between_logged_steps_is_never_checkpointed(tmp_path):
    # 600 steps are logged at every third; the checkpoint of step 4 comes before the next of those.
    with pytest.raises(FloatingPointError, match="at step 4"):
        losses_become_nan(at=4, total_steps=600, checkpoint_dir=str(tmp_path), every_steps=2)
    assert tf.train.latest_checkpoint(str(tmp_path)).endswith("ckpt-2")


def test_train_long_training_logs_two_hundred_points_and_the_last():
    history = losses_become_nan(at=10**9, total_steps=1001)
    steps = [row["step"] for row in history.rows]
    assert steps == [*range(5, 1001, 5), 1001]


def test_train_writes_tensorboard_events(tmp_path):
    variable = tf.Variable(1.0)
    optimizer = loop.build_optimizer(
        OptimizerConfig(name="sgd", learning_rate=0.1), [variable], batch_size=1, total_steps=2
    )
    loop.train(
        lambda batch: {"loss": tf.cast(batch["number"], tf.float32)},
        numbers(2),
        trackables={},
        optimizer=optimizer,
        total_steps=2,
        steps_per_epoch=1,
        batch_size=1,
        log_dir=str(tmp_path),
    )
    events = [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in tmp_path.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert {event for event in events if event[1] == "loss"} == {(1, "loss", 1.0), (2, "loss", 2.0)}


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_build_optimizer_decays_kernels_and_nothing_else(name, weight_decay):
    kernel, gamma = tf.Variable(tf.fill([2, 2], 3.0)), tf.Variable(tf.fill([2], 3.0))
    config = OptimizerConfig(name=name, learning_rate=0.5, weight_decay=weight_decay)
    optimizer = loop.build_optimizer(config, [kernel, gamma], batch_size=1, total_steps=10)
    # Without a gradient, decay is all that can move a variable.
    optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in (kernel, gamma)])
    np.testing.assert_array_equal(gamma, [3, 3])
    assert (kernel.numpy() < 3).all() == (weight_decay > 0)
    assert (kernel.numpy() == 3).all() == (weight_decay == 0)


@pytest.mark.parametrize(("scaling", "peak"), [("none", 0.5), ("linear", 1.0), ("sqrt", 0.5 * 512**0.5)])
@pytest.mark.parametrize(("decay", "end"), [("cosine", 0.0), ("constant", 1.0)])
def test_build_optimizer_peak_and_decay_are_the_configured_ones(scaling, peak, decay, end):
    config = OptimizerConfig(learning_rate=0.5, scaling=scaling, decay=decay, warmup_share=0.2)
    schedule = loop.build_optimizer(config, [tf.Variable([1.0])], batch_size=512, total_steps=10)._learning_rate
    assert [float(schedule(step)) for step in (0, 2, 10)] == pytest.approx([peak / 2, peak, end * peak], abs=1e-6)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_build_optimizer_follows_warmup_and_cosine(name):
    variable = tf.Variable([1.0])
    config = OptimizerConfig(name=name, learning_rate=2.0, warmup_share=0.2)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=10)
    rates = []
    for _ in range(10):
        optimizer.apply_gradients([(tf.ones_like(variable), variable)])
        rates.append(float(optimizer.learning_rate))  # that of the step just taken
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 + np.cos(np.pi * 7 / 8), abs=1e-5)


@pytest.mark.parametrize(("warmup_epochs", "warmup_steps"), [(0.0, 0), (0.5, 3), (2.0, 12), (50.0, 60)])
def test_build_optimizer_warms_up_for_its_epochs_and_no_longer_than_the_training(warmup_epochs, warmup_steps):
    config = OptimizerConfig(learning_rate=1.0, warmup_epochs=warmup_epochs)
    settings = {"batch_size": 1, "total_steps": 60, "steps_per_epoch": 6}
    schedule = loop.build_optimizer(config, [tf.Variable([1.0])], **settings)._learning_rate
    expected = schedules.warmup_cosine(1.0, warmup_steps=warmup_steps, total_steps=60)
    assert [float(schedule(step)) for step in range(60)] == [float(expected(step)) for step in range(60)]


def test_build_optimizer_warmup_in_epochs_of_unknown_length_is_refused():
    config = OptimizerConfig(learning_rate=1.0, warmup_epochs=10.0)
    with pytest.raises(ValueError, match=r"warmup_epochs 10\.0: give steps_per_epoch"):
        loop.build_optimizer(config, [tf.Variable([1.0])], batch_size=1, total_steps=60)


def test_build_optimizer_sgd_takes_nesterov_steps():
    variable = tf.Variable([0.0])
    config = OptimizerConfig(name="sgd", learning_rate=1.0)
    optimizer = loop.build_optimizer(config, [variable], batch_size=1, total_steps=10**6)
    optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    # v = −1, and the step looks ahead: 0.9·v − 1
    np.testing.assert_allclose(variable, [-1.9], rtol=1e-5)
