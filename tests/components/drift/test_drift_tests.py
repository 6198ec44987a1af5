"""The tests' error rates under the null, their power, and the arithmetic behind them."""

import numpy as np
import pytest
from scipy import stats

from components.drift import two_sample
from components.drift.unusual import most_unusual, standardised


def share_of_alarms(p_value, seeds, rate):
    return np.mean([p_value(np.random.default_rng(seed), seed) <= rate for seed in range(seeds)])


@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_kernel_test_of_one_distribution_alarms_as_often_as_stated(heavy_tailed):
    def p_value(random, seed):
        draw = random.standard_cauchy if heavy_tailed else random.standard_normal
        return two_sample.kernel_test(draw((15, 3)), draw((25, 3)), permutations=99, seed=seed).p_value

    # 5% stated, exact: three standard errors at 400 seeds are 3.3%.
    assert 0.017 < share_of_alarms(p_value, 400, 0.05) < 0.083


def test_kernel_test_sees_a_shift_and_a_change_of_spread_alone():
    random = np.random.default_rng(0)
    window = random.standard_normal((80, 5))
    for other in (random.standard_normal((80, 5)) + 0.7, 2.5 * random.standard_normal((80, 5))):
        found = two_sample.kernel_test(other, window, permutations=499, seed=0)
        assert found.p_value == 1 / 500
        assert found.mmd2 > 3 * found.expected


def test_kernel_tests_statistic_is_that_of_the_definition():
    random = np.random.default_rng(1)
    new, window = random.standard_normal((4, 2)), random.standard_normal((6, 2))
    pooled = np.concatenate([new, window])
    apart = [np.sum((pooled[i] - pooled[j]) ** 2) for i in range(10) for j in range(i)]

    def mean_kernel(left, right):
        return np.mean([np.exp(-np.sum((x - y) ** 2) / (2 * np.median(apart))) for x in left for y in right])

    expected = mean_kernel(new, new) + mean_kernel(window, window) - 2 * mean_kernel(new, window)
    assert two_sample.kernel_test(new, window, permutations=3, seed=0).mmd2 == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_vectors_raise_no_alarm(value):
    same = np.full((12, 3), value)
    assert two_sample.kernel_test(same, same, permutations=99, seed=0).p_value == 1.0


def test_mostly_equal_vectors_are_still_told_apart():
    window, new = np.zeros((60, 2)), np.zeros((20, 2))
    new[:12] = 1.0
    assert two_sample.kernel_test(new, window, permutations=199, seed=0).p_value == 1 / 200


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (4,)])
def test_samples_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"Two samples are \[n, D\] and \[m, D\]"):
        two_sample.kernel_test(np.zeros(shape), np.zeros((4, 3)), permutations=9, seed=0)


def test_statistics_of_one_distribution_alarm_no_more_often_than_stated_all_together():
    def smallest_p_value(random, _):
        sides = [{str(k): np.round(random.standard_normal(n), 1) for k in range(8)} for n in (25, 40)]
        return min(shift.p_value for shift in two_sample.shifts(*sides))

    # Without the adjustment for eight of them it would be a third.
    assert share_of_alarms(smallest_p_value, 200, 0.05) < 0.096


def test_shift_of_one_statistic_is_found_and_named_with_its_medians():
    random = np.random.default_rng(0)
    window = {name: random.standard_normal(200) for name in "abc"}
    new = {name: random.standard_normal(100) + (name == "b") for name in "abc"}
    found = {shift.name: shift for shift in two_sample.shifts(new, window)}
    assert [name for name, shift in found.items() if shift.p_value < 0.005] == ["b"]
    assert found["b"].new_median - found["b"].window_median == pytest.approx(1, abs=0.4)
    assert found["b"].distance == pytest.approx(stats.ks_2samp(new["b"], window["b"]).statistic)


def test_holm_is_the_published_procedure():
    assert two_sample.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert two_sample.holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def test_image_far_from_the_window_is_the_most_unusual():
    random = np.random.default_rng(0)
    window, new = random.standard_normal((50, 3)), random.standard_normal((20, 3))
    new[7] += 9
    first, second = most_unusual(new, window, count=2)
    assert (first.index, first.share) == (7, 0.0)
    assert first.times > 5 and second.times < first.times / 2


def test_image_in_the_middle_of_the_window_is_as_far_as_the_windows_own():
    window = np.random.default_rng(0).standard_normal((200, 2))
    (centre,) = most_unusual(np.zeros((1, 2)), window, count=5)
    assert centre.share > 0.5 and centre.times < 1


def test_window_of_one_image_is_refused():
    with pytest.raises(ValueError, match="the window has 1"):
        most_unusual(np.zeros((3, 2)), np.zeros((1, 2)), count=1)


def test_column_without_spread_takes_no_part_in_the_distance():
    new, window = standardised(np.array([[1.0, 7.0]]), np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert new.tolist() == [[-1.0, 0.0]] and window.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
