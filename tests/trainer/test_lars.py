import lars_oracle
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer import heads, lars, loop, resnet, schedules
from trainer.config import EncoderConfig, HeadConfig, OptimizerConfig

WEIGHTS = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
GRADIENTS = [np.array(g, np.float32) for g in ([[1, 0], [2, -1]], [[-3, 1], [0, 0.5]], [[0.1, 0.2], [0.3, 0.4]])]
PEAK, RATES = 2.0, [1.0, 2.0, 2.0]  # of WarmupCosine, see test_schedules


def run_steps(optimizer, variable, gradients):
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
        yield variable.numpy()


@pytest.mark.parametrize("decay", [0.0, 1e-4, 0.5])
@pytest.mark.parametrize("adapted", [True, False])
def test_lars_three_steps_equal_the_oracle(decay, adapted):
    variable = tf.Variable(WEIGHTS)
    schedule = schedules.warmup_cosine(PEAK, warmup_steps=2, total_steps=4)
    optimizer = lars.LARS(schedule, weight_decay=decay, exclude=() if adapted else [variable])
    steps = list(run_steps(optimizer, variable, GRADIENTS))
    expected = lars_oracle.trace(WEIGHTS, GRADIENTS, RATES, decay=decay, adapted=adapted)
    np.testing.assert_allclose(steps, expected, rtol=2e-6)


def test_lars_three_steps_equal_the_golden_trace():
    # Worked by hand, decay 0 and rates 1, 2, 2. ‖w‖ = 5 and ‖g‖ = 2.5 make the first step 1·0.001·2·g; the second is
    # 0.9·v + 2·0.001·‖w‖/‖g‖·g with ‖w‖ = 4.995 and ‖g‖ = 1; the third has no gradient and leaves 0.9·v.
    variable = tf.Variable([3.0, 4.0])
    optimizer = lars.LARS(schedules.warmup_cosine(PEAK, warmup_steps=2, total_steps=4))
    steps = list(run_steps(optimizer, variable, [[1.5, 2.0], [0.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(steps, [[2.997, 3.996], [2.9943, 3.98241], [2.99187, 3.970179]], rtol=1e-6)


def test_lars_zero_gradient_still_decays_the_weights_and_moves_on_its_momentum():
    zero = np.zeros_like(WEIGHTS)
    gradients = [GRADIENTS[0], zero, zero]
    steps = list(run_steps(lars.LARS(1.0, weight_decay=0.1), tf.Variable(WEIGHTS), gradients))
    np.testing.assert_allclose(steps, lars_oracle.trace(WEIGHTS, gradients, [1.0] * 3, decay=0.1), rtol=2e-6)


@pytest.mark.parametrize(
    ("weights", "gradient", "expected"),
    [([0.0, 0.0], [3.0, 4.0], [-0.3, -0.4]), ([3.0, 4.0], [0.0, 0.0], [3.0, 4.0])],
)
def test_lars_zero_norm_takes_a_ratio_of_one(weights, gradient, expected):
    (step,) = run_steps(lars.LARS(0.1), tf.Variable(weights), [gradient])
    np.testing.assert_allclose(step, expected, rtol=1e-6)


def test_build_optimizer_lars_adapts_exactly_the_kernels():
    encoder = resnet.build_encoder(EncoderConfig(stage_blocks=(1, 1), width=2), size_px=8, seed=0)
    head = heads.projection_head(HeadConfig(output_dim=3), input_dim=4, seed=0)
    kernels = [
        layer.kernel
        for model in (encoder, head)
        for layer in model.layers
        if isinstance(layer, (tf_keras.layers.Conv2D, tf_keras.layers.Dense))
    ]
    variables = encoder.trainable_variables + head.trainable_variables
    config = OptimizerConfig(name="lars", learning_rate=1.0, weight_decay=0.5)
    optimizer = loop.build_optimizer(config, variables, batch_size=1, total_steps=4)
    before = [variable.numpy() for variable in variables]
    gradients = [np.full(variable.shape, 2.0, np.float32) for variable in variables]
    optimizer.apply_gradients(zip(map(tf.constant, gradients), variables, strict=True))
    adapted = {variable.ref() for variable in kernels}
    assert len(adapted) == 1 + 2 + 3 + 2  # stem, a block, a block with shortcut, head
    for variable, old, gradient in zip(variables, before, gradients, strict=True):
        (expected,) = lars_oracle.trace(old, [gradient], [1.0], decay=0.5, adapted=variable.ref() in adapted)
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6, err_msg=variable.name)


def test_build_optimizer_lars_leaves_the_supervised_head_alone():
    head = heads.classification_head(3)
    head.build([None, 4])
    head.kernel.assign(tf.ones([4, 3]))
    config = OptimizerConfig(name="lars", learning_rate=1.0, weight_decay=0.5)
    variables = head.trainable_variables
    optimizer = loop.build_optimizer(config, variables, batch_size=1, total_steps=4, supervised_head=variables)
    optimizer.apply_gradients([(2 * tf.ones_like(variable), variable) for variable in variables])
    np.testing.assert_allclose(head.kernel, 1 - 2)
    np.testing.assert_allclose(head.bias, -2)


@pytest.mark.parametrize("rate", [0.25, schedules.warmup_cosine(PEAK, warmup_steps=2, total_steps=4)])
def test_lars_config_round_trip_takes_the_same_steps(rate):
    optimizer = lars.LARS(rate, momentum=0.8, weight_decay=0.3, trust_coefficient=0.01)
    twin = tf_keras.optimizers.deserialize(tf_keras.optimizers.serialize(optimizer))
    assert isinstance(twin, lars.LARS) and twin.get_config() == optimizer.get_config()
    steps = list(run_steps(optimizer, tf.Variable(WEIGHTS), GRADIENTS))
    np.testing.assert_array_equal(steps, list(run_steps(twin, tf.Variable(WEIGHTS), GRADIENTS)))


def network():
    layers = [tf_keras.layers.Dense(4), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(2)]
    model = tf_keras.Sequential([tf_keras.Input([3]), *layers])
    vectors = [variable for variable in model.trainable_variables if variable.shape.rank == 1]
    # The biases far from 0, where a ratio would hold them back.
    model.set_weights([weight + 1 for weight in model.get_weights()])
    return model, vectors


def fit(model):
    x = np.random.default_rng(0).normal(size=[8, 3])
    model.fit(x, x[:, :2], epochs=2, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()


def test_lars_of_a_saved_model_goes_on_with_the_same_exclusions(tmp_path):
    model, vectors = network()
    # In a graph each of the three trainings would be traced, for seconds.
    model.compile(lars.LARS(0.1, weight_decay=0.1, exclude=vectors), "mse", run_eagerly=True)
    fit(model)
    model.save(tmp_path / "model.keras")
    twin = tf_keras.models.load_model(tmp_path / "model.keras")
    twin.run_eagerly = True
    assert twin.optimizer.get_config()["exclude"] == [1, 2, 3, 5]
    for weight, expected in zip(fit(twin), fit(model), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_lars_exclusions_are_not_saved_before_their_positions_are_known():
    variable = tf.Variable(WEIGHTS)
    optimizer = lars.LARS(0.1, exclude=[variable])
    with pytest.raises(ValueError, match=r"exclude 1 variables: .* optimizer\.build\(model\.trainable_variables\)"):
        optimizer.get_config()
    optimizer.build([tf.Variable(WEIGHTS), variable])
    assert optimizer.get_config()["exclude"] == [1]
    with pytest.raises(ValueError, match=r"exclude \[1\]: there are 1 variables"):
        lars.LARS.from_config(optimizer.get_config()).build([variable])


def test_lars_step_of_a_part_of_the_variables_takes_their_own_velocity():
    first, second = tf.Variable(WEIGHTS), tf.Variable(3 * WEIGHTS)
    optimizer = lars.LARS(1.0)
    optimizer.build([first, second])
    optimizer.apply_gradients([(tf.constant(GRADIENTS[0]), first), (tf.constant(GRADIENTS[1]), second)])
    optimizer.apply_gradients([(tf.constant(GRADIENTS[2]), second)])
    expected = lars_oracle.trace(3 * WEIGHTS, GRADIENTS[1:], [1.0] * 2)[-1]
    np.testing.assert_allclose(second, expected, rtol=2e-6)


def test_lars_moving_average_of_the_base_class_follows_the_weights():
    variable = tf.Variable([3.0, 4.0])
    optimizer = lars.LARS(1.0, use_ema=True, ema_momentum=0.5)
    step = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, variable)]))
    for gradient in GRADIENTS[0]:
        step(tf.constant(gradient))
    first, second = lars_oracle.trace(np.array([3.0, 4.0]), GRADIENTS[0], [1.0] * 2)
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable, 0.5 * (0.5 * np.array([3.0, 4.0]) + 0.5 * first) + 0.5 * second, rtol=1e-6)


def test_lars_half_floats_take_the_ratio_of_their_norms():
    # The sums of the squares, 6.4e5 and 3.6e5, are beyond float16.
    variable = tf.Variable(tf.fill([400, 400], tf.constant(2, tf.float16)))
    optimizer = lars.LARS(1.0, weight_decay=0.25, trust_coefficient=0.5)
    optimizer.apply_gradients([(tf.ones([400, 400], tf.float16), variable)])
    np.testing.assert_allclose(variable, np.full([400, 400], 2 - 0.5 * 800 / 600 * 1.5), rtol=1e-3)


def test_lars_gradient_of_some_rows_is_that_of_all_with_zeros():
    gradient = tf.IndexedSlices(tf.constant(GRADIENTS[0][:1]), tf.constant([1]), tf.constant([2, 2]))
    variable = tf.Variable(WEIGHTS)
    lars.LARS(1.0, weight_decay=0.1).apply_gradients([(gradient, variable)])
    dense = np.stack([np.zeros(2, np.float32), GRADIENTS[0][0]])
    np.testing.assert_allclose(variable, lars_oracle.trace(WEIGHTS, [dense], [1.0], decay=0.1)[0], rtol=2e-6)


@pytest.mark.parametrize("fault", [{"momentum": 1.0}, {"weight_decay": -0.1}, {"trust_coefficient": 0.0}])
def test_lars_number_out_of_its_range_is_refused_by_its_name(fault):
    ((name, value),) = fault.items()
    with pytest.raises(ValueError, match=f"{name} {value}: must be"):
        lars.LARS(0.1, **fault)


def test_lars_gradient_clipping_of_the_base_class_still_works():
    (step,) = run_steps(lars.LARS(0.1, clipnorm=1.0), tf.Variable([0.0, 0.0]), [[30.0, 40.0]])
    np.testing.assert_allclose(step, [-0.06, -0.08], rtol=1e-6)
