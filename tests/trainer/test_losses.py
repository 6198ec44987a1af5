import math
import re

import numpy as np
import pytest
import tensorflow as tf
from distillation_oracle import distillation
from nt_xent_oracle import finite_difference_gradient, nt_xent

from trainer import losses

GENERATOR = np.random.default_rng(0)
Z_A = GENERATOR.normal(size=[5, 4])
Z_B = Z_A + 0.5 * GENERATOR.normal(size=[5, 4])


def loss_of(z_a, z_b, temperature):
    return float(losses.nt_xent(tf.constant(z_a), tf.constant(z_b), temperature=temperature))


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 1.0, 7.0])
def test_nt_xent_random_projections_equal_the_oracle(temperature):
    assert loss_of(Z_A, Z_B, temperature) == pytest.approx(nt_xent(Z_A, Z_B, temperature), rel=1e-5)


@pytest.mark.parametrize("n_pairs", [1, 2, 8])
def test_nt_xent_equal_projections_is_log_of_the_other_rows(n_pairs):
    z = np.tile([[0.3, -2.0, 1.0]], [n_pairs, 1])
    assert loss_of(z, z, 0.1) == pytest.approx(math.log(2 * n_pairs - 1), abs=1e-5)


def test_nt_xent_swapped_views_is_unchanged():
    assert loss_of(Z_A, Z_B, 0.2) == pytest.approx(loss_of(Z_B, Z_A, 0.2), rel=1e-6)


def test_nt_xent_scaled_projections_is_unchanged():
    scales = np.linspace(0.1, 30, 5)[:, None]
    assert loss_of(scales * Z_A, Z_B, 0.2) == pytest.approx(loss_of(Z_A, Z_B, 0.2), rel=1e-5)


def test_nt_xent_shuffled_pairs_is_larger_than_matched_pairs():
    assert loss_of(Z_A, Z_B[::-1], 0.2) > loss_of(Z_A, Z_B, 0.2) + 0.1


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_gradient_equals_finite_differences_of_the_oracle(temperature):
    z_a, z_b = tf.constant(Z_A, tf.float32), tf.constant(Z_B, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([z_a, z_b])
        loss = losses.nt_xent(z_a, z_b, temperature=temperature)
    gradient_a, gradient_b = tape.gradient(loss, [z_a, z_b])
    expected_a = finite_difference_gradient(lambda z: nt_xent(z, Z_B, temperature), Z_A)
    expected_b = finite_difference_gradient(lambda z: nt_xent(Z_A, z, temperature), Z_B)
    np.testing.assert_allclose(gradient_a, expected_a, atol=2e-5)
    np.testing.assert_allclose(gradient_b, expected_b, atol=2e-5)


def test_nt_xent_half_precision_projections_give_a_float32_loss():
    loss = losses.nt_xent(tf.constant(Z_A, tf.bfloat16), tf.constant(Z_B, tf.bfloat16), temperature=0.1)
    assert loss.dtype == tf.float32
    rounded = (np.float64(tf.cast(tf.constant(z, tf.bfloat16), tf.float32)) for z in (Z_A, Z_B))
    assert float(loss) == pytest.approx(nt_xent(*rounded, 0.1), rel=1e-5)


# Of 9 and 5 rows the row halfway down would be taken for the positive; one row of logits would teach a whole batch.
@pytest.mark.parametrize("loss", [losses.nt_xent, losses.distillation])
@pytest.mark.parametrize(
    "shapes", [([9, 4], [5, 4]), ([5, 4], [1, 4]), ([5, 4], [5, 3]), ([4], [4]), ([5, 1, 4], [5, 1, 4])]
)
def test_loss_of_unlike_matrices_is_refused_with_their_shapes(loss, shapes):
    first, second = map(tf.zeros, shapes)
    with pytest.raises(ValueError, match=f"{re.escape(str(first.shape))} and .*{re.escape(str(second.shape))}: must"):
        loss(first, second, temperature=0.1)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.distillation])
@pytest.mark.parametrize("temperature", [0, -0.5, np.float32(0), math.nan])
def test_loss_at_no_temperature_is_refused_with_its_value(loss, temperature):
    with pytest.raises(ValueError, match=f"temperature {temperature}: must be more than 0"):
        loss(tf.constant(Z_A), tf.constant(Z_B), temperature=temperature)


def test_loss_of_rows_that_a_graph_does_not_know_is_taken():
    unknown = [tf.TensorSpec([None, None], tf.float64)] * 2
    loss = tf.function(lambda z_a, z_b: losses.nt_xent(z_a, z_b, temperature=0.2), input_signature=unknown)
    assert float(loss(Z_A, Z_B)) == pytest.approx(nt_xent(Z_A, Z_B, 0.2), rel=1e-12)


def test_nt_xent_zero_projection_stays_finite():
    z = tf.zeros([2, 3])
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = losses.nt_xent(z, z, temperature=0.1)
    assert np.isfinite(float(loss)) and np.isfinite(tape.gradient(loss, z)).all()


def test_contrastive_accuracy_counts_rows_nearest_to_their_positive():
    # Rows 0 and 1 of both views find their partners; the second pair's views point away from one another.
    z_a = tf.constant([[1.0, 0, 0], [0, 1, 0]])
    z_b = tf.constant([[1.0, 0.1, 0], [0, -1, 0]])
    _, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.1)
    assert float(accuracy) == 0.5
    _, perfect = losses.nt_xent_and_accuracy(z_a, z_a, temperature=0.1)
    assert float(perfect) == 1.0


def test_nt_xent_float64_projections_give_a_float64_loss():
    loss = losses.nt_xent(tf.constant(Z_A), tf.constant(Z_B), temperature=0.1)
    assert loss.dtype == tf.float64
    assert float(loss) == pytest.approx(nt_xent(Z_A, Z_B, 0.1), rel=1e-13)


def loss_and_gradients(compiled=False, **options):
    @tf.function(jit_compile=compiled, autograph=False)
    def run(z_a, z_b):
        with tf.GradientTape() as tape:
            tape.watch([z_a, z_b])
            loss, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.2, **options)
        return loss, accuracy, *tape.gradient(loss, [z_a, z_b])

    return [value.numpy() for value in run(tf.constant(Z_A), tf.constant(Z_B))]


QUEUE = np.eye(4)[[0, 2, 3]]


@pytest.mark.parametrize("queue", [None, QUEUE], ids=["no queue", "queue"])
@pytest.mark.parametrize("block_rows", [1, 3, 5, 10, 1000])  # of 10 rows: 3 leaves one over
def test_nt_xent_in_blocks_equals_the_whole_matrix(block_rows, queue):
    whole = loss_and_gradients(queue=queue)
    blocks = loss_and_gradients(queue=queue, block_rows=block_rows)
    for value, expected in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("block_rows", [None, 3])
def test_nt_xent_compiled_by_xla_equals_the_graph(block_rows):
    compiled = loss_and_gradients(compiled=True, queue=QUEUE, block_rows=block_rows)
    for value, expected in zip(compiled, loss_and_gradients(queue=QUEUE), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)


def test_nt_xent_in_blocks_holds_no_matrix_of_all_rows():
    # 600 rows: no tensor of the compiled step, forward or backward, comes near to 600·600 elements.
    def largest(**options):
        function = tf.function(lambda z: loss_gradient(z, **options), jit_compile=True, autograph=False)
        text = function.experimental_get_compiler_ir(tf.TensorSpec([300, 8]))(stage="optimized_hlo")
        shapes = re.findall(r"f32\[([\d,]+)\]", text)
        return max(math.prod(map(int, shape.split(","))) for shape in shapes)

    def loss_gradient(z, **options):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss, _ = losses.nt_xent_and_accuracy(z, z[::-1], temperature=0.2, **options)
        return tape.gradient(loss, z)

    assert largest() >= 600 * 600
    assert largest(block_rows=20) <= 2 * 20 * 600


def test_nt_xent_queue_adds_negatives_as_the_oracle_does():
    loss, _, gradient_a, _ = loss_and_gradients(queue=QUEUE)
    assert loss == pytest.approx(nt_xent(Z_A, Z_B, 0.2, QUEUE), rel=1e-12)
    assert loss > nt_xent(Z_A, Z_B, 0.2) + 0.01
    expected = finite_difference_gradient(lambda z: nt_xent(z, Z_B, 0.2, QUEUE), Z_A)
    np.testing.assert_allclose(gradient_a, expected, atol=1e-9)


@pytest.mark.parametrize("block_rows", [None, 4])
def test_nt_xent_empty_slots_of_the_queue_are_not_seen(block_rows):
    half_full = np.concatenate([QUEUE, np.zeros([6, 4])])
    expected = loss_and_gradients(queue=QUEUE)
    for value, wanted in zip(loss_and_gradients(queue=half_full, block_rows=block_rows), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-14)
    empty = loss_and_gradients(queue=np.zeros([6, 4]), block_rows=block_rows)
    assert empty[0] == pytest.approx(nt_xent(Z_A, Z_B, 0.2), rel=1e-12)


@pytest.mark.parametrize("block_rows", [None, 4])
def test_nt_xent_no_gradient_reaches_the_queue(block_rows):
    queue = tf.constant(QUEUE)
    with tf.GradientTape() as tape:
        tape.watch(queue)
        loss, _ = losses.nt_xent_and_accuracy(
            tf.constant(Z_A), tf.constant(Z_B), temperature=0.2, queue=queue, block_rows=block_rows
        )
    assert tape.gradient(loss, queue) is None


def test_contrastive_accuracy_positive_must_beat_the_queue():
    z_a = tf.constant([[1.0, 0.3, 0], [0, 1, 0]])
    z_b = tf.constant([[1.0, -0.3, 0], [0, 1, 0]])
    _, accuracy = losses.nt_xent_and_accuracy(z_a, z_b, temperature=0.1, queue=tf.constant([[1.0, 0, 0]]))
    assert float(accuracy) == 0.5  # the queue's row lies between those of the first pair


STUDENT, TEACHER = GENERATOR.normal(size=[6, 5]), GENERATOR.normal(size=[6, 5])


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_distillation_random_logits_equal_the_oracle(temperature):
    student = tf.constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = losses.distillation(student, tf.constant(TEACHER), temperature=temperature)
    assert float(loss) == pytest.approx(distillation(STUDENT, TEACHER, temperature), rel=1e-12)
    expected = finite_difference_gradient(lambda logits: distillation(logits, TEACHER, temperature), STUDENT)
    np.testing.assert_allclose(tape.gradient(loss, student), expected, atol=1e-8)


def test_distillation_student_equal_to_its_teacher_gets_no_gradient():
    logits = tf.constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.distillation(logits, TEACHER, temperature=0.5)
    np.testing.assert_allclose(tape.gradient(loss, logits), 0, atol=1e-15)
    probabilities = np.exp(TEACHER / 0.5) / np.exp(TEACHER / 0.5).sum(axis=1, keepdims=True)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1).mean()
    assert float(loss) == pytest.approx(entropy, rel=1e-12), "the least that it can be"


def test_distillation_no_gradient_reaches_the_teacher():
    teacher = tf.constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = losses.distillation(tf.constant(STUDENT), teacher, temperature=0.5)
    assert tape.gradient(loss, teacher) is None


def test_distillation_half_precision_logits_give_a_float32_loss():
    student, teacher = (tf.cast(logits, tf.bfloat16) for logits in (STUDENT, TEACHER))
    loss = losses.distillation(student, teacher, temperature=0.1)
    assert loss.dtype == tf.float32
    rounded = (np.float64(tf.cast(logits, tf.float32)) for logits in (student, teacher))
    assert float(loss) == pytest.approx(distillation(*rounded, 0.1), rel=1e-5)
