import dataclasses

import numpy as np
import pytest

from components.report import analysis
from components.report.content import Embeddings, Row, Run


def _row(arm: str, top1: float, *, n_test: int = 1000, fraction: float = 0.1) -> Row:
    return Row(
        arm=arm, label_fraction=fraction, n_labels=40, top1=top1, top5=None, n_test=n_test, seed=0, settings={}
    )


def _run(label_index: list[int], predicted: list[int], n_classes: int) -> Run:
    return Run(
        row=_row("finetune", 0.5),
        history={},
        probabilities=np.eye(n_classes, dtype=np.float32)[predicted],
        label_index=np.array(label_index),
        classes=tuple(f"class {index}" for index in range(n_classes)),
    )


def _embeddings(h: np.ndarray) -> Embeddings:
    count = len(h)
    return Embeddings(
        h=h,
        label_index=np.zeros(count, np.int64),
        keys=tuple(map(str, range(count))),
        images=np.zeros((count, 2, 2, 3), np.uint8),
        classes=("one",),
    )


@pytest.mark.parametrize(
    ("share", "n", "expected"),
    [
        # Agresti and Coull (1998), The American Statistician 52: 5 of 10; and the closed form at 0 of n.
        (0.5, 10, (0.2366, 0.7634)),
        (0.0, 10, (0.0, 3.8415 / 13.8415)),
    ],
)
def test_wilson_interval_equals_known_value(share, n, expected):
    assert analysis.wilson_interval(share, n) == pytest.approx(expected, abs=1e-4)


def test_newcombe_interval_equals_the_papers_example():
    # Newcombe (1998), table II, method 10: 56/70 against 48/80.
    comparison = analysis.compare(_row("left", 56 / 70, n_test=70), _row("right", 48 / 80, n_test=80))

    assert (comparison.low, comparison.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert comparison.is_certain


def test_several_seeds_count_as_their_mean():
    rows = [_row("finetune", 0.4), _row("finetune", 0.6), _row("supervised", 0.3)]

    (comparison,) = analysis.compare_arms(rows, "finetune", "supervised")

    assert comparison.difference == pytest.approx(0.2)


def test_fraction_of_one_arm_alone_is_not_compared():
    rows = [_row("finetune", 0.4), _row("supervised", 0.3, fraction=0.01)]

    assert analysis.compare_arms(rows, "finetune", "supervised") == ()


def test_neighbours_are_by_angle_and_never_the_query():
    h = np.array([[1, 0], [10, 1], [0, 1], [0, 0]], np.float32)

    assert analysis.nearest_neighbours(h, np.array([0, 2]), 2).tolist() == [[1, 2], [1, 0]]


def test_queries_are_of_different_classes():
    labels = np.repeat(np.arange(4), 25)

    queries = analysis.choose_queries(labels, 4, seed=0)

    assert sorted(labels[queries]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("points", "dimensions", "method"),
    [(1, 4, "PCA"), (9, 4, "PCA"), (9, 1, "PCA"), (10, 4, "t-SNE"), (40, 1, "t-SNE")],
)
def test_map_has_a_finite_place_for_each_point(points, dimensions, method):
    h = np.random.default_rng(0).normal(size=(points, dimensions)).astype(np.float32)

    layout = analysis.project(_embeddings(h), seed=0)

    assert layout.method == method
    assert layout.position.shape == (points, 2)
    assert np.isfinite(layout.position).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
def test_map_of_a_collapsed_encoder_is_finite():
    layout = analysis.project(_embeddings(np.ones((20, 4), np.float32)), seed=0)

    assert np.isfinite(layout.position).all()


def test_map_is_the_same_each_time():
    embeddings = _embeddings(np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32))

    first, second = (analysis.project(embeddings, seed=0).position for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_confusion_counts_true_by_predicted():
    confusion = analysis.confusion_matrix(_run([0, 0, 1], [0, 1, 1], 2))

    assert confusion.counts.tolist() == [[1, 1], [0, 1]]
    assert confusion.n_hidden == 0


def test_rare_classes_are_one_row_of_the_confusion():
    n_classes = analysis.MAX_CLASSES + 5
    labels = [*range(analysis.MAX_CLASSES), *range(n_classes)]

    confusion = analysis.confusion_matrix(_run(labels, labels, n_classes))

    assert confusion.n_hidden == 5
    assert confusion.classes[-1] == analysis.OTHER
    assert confusion.counts.sum() == len(labels)
    assert confusion.counts[-1, -1] == 5


def test_class_without_images_has_no_accuracy():
    accuracies = analysis.class_accuracies(_run([0, 0, 2], [0, 1, 2], 3))

    assert [dataclasses.astuple(item) for item in accuracies] == [("class 0", 0.5, 2), ("class 2", 1.0, 1)]


def test_long_curve_is_thinned_to_means():
    assert analysis.thin(np.arange(6.0), 3).tolist() == [0.5, 2.5, 4.5]
    assert analysis.thin(np.arange(2.0), 3).tolist() == [0.0, 1.0]
