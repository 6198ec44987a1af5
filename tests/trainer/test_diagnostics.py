import math

import geometry_oracle as oracle
import numpy as np
import pytest

from trainer import diagnostics

RANDOM = np.random.default_rng(0)


def pairs(z):
    """Each row twice, as two views that are alike."""
    return np.concatenate([z, z])


def test_alignment_of_identical_views_is_zero_and_of_opposite_ones_four():
    z = RANDOM.normal(size=[5, 3])
    assert diagnostics.alignment(pairs(z)) == pytest.approx(0, abs=1e-12)
    assert diagnostics.alignment(np.concatenate([z, -2 * z])) == pytest.approx(4)
    assert diagnostics.alignment(np.eye(4)) == pytest.approx(2)


def test_uniformity_of_equal_rows_is_zero_and_of_orthonormal_ones_minus_four():
    assert diagnostics.uniformity(pairs(np.ones([4, 3]))) == pytest.approx(0, abs=1e-12)
    assert diagnostics.uniformity(pairs(3 * np.eye(6))) == pytest.approx(-4)
    # one opposite pair: ‖x − y‖² = 4
    assert diagnostics.uniformity(pairs(np.array([[1.0, 0], [-1, 0]]))) == pytest.approx(-8)


def test_effective_rank_closed_forms():
    one = np.outer(RANDOM.normal(size=9), RANDOM.normal(size=5))
    assert diagnostics.effective_rank(one) == pytest.approx(1)
    assert diagnostics.effective_rank(np.zeros([4, 3])) == 1
    whitened, _ = np.linalg.qr(RANDOM.normal(size=[50, 7]))
    assert diagnostics.effective_rank(whitened.astype(np.float32)) == pytest.approx(7, rel=1e-5)
    # shares 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert diagnostics.effective_rank(np.diag([3.0, 1.0])) == pytest.approx(math.exp(entropy))


def test_spread_of_equal_directions_is_zero_and_of_balanced_ones_one():
    assert diagnostics.spread(np.array([[1.0, 2], [2, 4], [10, 20]])) == pytest.approx(0, abs=1e-9)
    assert diagnostics.spread(np.array([[1.0, 0], [-7, 0], [0, 2], [0, -1]])) == pytest.approx(1)


def test_similarities_are_those_of_the_positive_and_the_nearest_negative():
    degrees = np.radians([0, 90, 10, 150])  # views of image 0 at 0° and 10°, of image 1 at 90° and 150°
    z = np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * [[1], [2], [3], [4]]
    positive, negative = diagnostics.similarities(z)
    cos = [math.cos(math.radians(angle)) for angle in (10, 60, 90, 80, 80, 140)]
    assert positive == pytest.approx((cos[0] + cos[1]) / 2)
    assert negative == pytest.approx((cos[2] + cos[3] + cos[4] + cos[5]) / 4)


def test_knn_accuracy_leaves_the_image_itself_out():
    h = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    for label, expected in [([0, 0, 1, 1], 1), ([0, 1, 0, 1], 0), ([0, 0, 0, 1], 0.5)]:
        assert diagnostics.knn_accuracy(h, np.array(label))["knn_accuracy"] == expected


@pytest.mark.parametrize(("n_images", "k"), [(4, 3), (40, 20)])
def test_knn_accuracy_has_its_settings_beside_it(n_images, k):
    found = diagnostics.measure(healthy(n_images, label=0))
    assert (found["knn_k"], found["knn_temperature"]) == (k, 0.07)


def healthy(n_images=6, label=-1):
    """z orthogonal between images and equal between views, h likewise."""
    return diagnostics.Look(h=pairs(np.eye(n_images)), z=pairs(np.eye(n_images)), label=np.full([n_images], label))


def collapsed(n_images=6):
    h = np.ones([2 * n_images, 3]) + 1e-4 * RANDOM.normal(size=[2 * n_images, 3])
    return diagnostics.Look(h=h, z=h, label=np.full([n_images], -1))


def test_measure_gives_knn_only_where_there_are_labels():
    metrics = diagnostics.measure(healthy())
    assert metrics == pytest.approx(
        {
            "alignment": 0,
            "uniformity": -4,
            "spread": math.sqrt(5 / 6),
            "positive_similarity": 1,
            "hardest_negative_similarity": 0,
            "effective_rank": 6,
        },
        abs=1e-9,
    )
    assert diagnostics.measure(healthy(label=2))["knn_accuracy"] == 1


def test_collapse_warning_names_the_signs_and_a_remedy():
    words = diagnostics.collapse_warning(diagnostics.measure(collapsed()))
    assert "effective rank of 1.0" in words and "from their mean" in words and "lower the learning rate" in words
    assert diagnostics.collapse_warning(diagnostics.measure(healthy())) is None


def test_collapse_warning_is_given_where_h_is_not_finite():
    broken = diagnostics.Look(h=np.full([12, 3], np.nan), z=healthy().z, label=healthy().label)
    assert "effective rank of nan" in diagnostics.collapse_warning(diagnostics.measure(broken))


@pytest.mark.parametrize(
    ("loss", "is_stuck"), [(1.0, True), (0.9905, True), (1.0095, True), (0.98, False), (1.02, False)]
)
def test_stuck_warning_is_given_within_one_percent_of_guessing(loss, is_stuck):
    words = diagnostics.stuck_warning(loss * math.log(511), n_candidates=511)
    assert bool(words) == is_stuck
    if is_stuck:
        assert "log(511) = 6.236 is that of guessing" in words


@pytest.mark.parametrize("seed", range(3))
def test_measure_equals_the_oracle_of_single_pairs(seed):
    random = np.random.default_rng(seed)
    h, z = random.normal(0.3, size=[50, 7]), random.normal(0.3, size=[50, 4])
    h[25:] = h[:25] + random.normal(0, 0.5, size=[25, 7])  # views of one image are alike
    label = random.integers(0, 3, size=25)
    metrics = diagnostics.measure(diagnostics.Look(h=h.astype(np.float32), z=z.astype(np.float32), label=label))
    positive, negative = oracle.positive_and_hardest_negative(z)
    expected = {
        "alignment": oracle.alignment(z),
        "uniformity": oracle.uniformity(z),
        "positive_similarity": positive,
        "hardest_negative_similarity": negative,
        "effective_rank": oracle.effective_rank(h[:25]),
        "knn_accuracy": oracle.knn_accuracy(h[:25], label, k=20, temperature=0.07),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
