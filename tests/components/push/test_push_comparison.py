"""The paired bootstrap: against SciPy's, against the rate of wrong promotions that it promises, and its words."""

import numpy as np
import pytest
from scipy import stats

from components.push.comparison import Rule, compare, in_words, is_not_worse, why_not


def answers(*, both=0, won=0, lost=0, neither=0):
    candidate = [True] * (both + won) + [False] * (lost + neither)
    champion = [True] * both + [False] * won + [True] * lost + [False] * neither
    return np.array(candidate), np.array(champion)


def test_intervals_equal_those_of_resampled_images():
    candidate, champion = answers(both=700, won=90, lost=60, neither=150)
    found = compare(candidate, champion, Rule(0.02, resamples=20_000))
    for values, interval in (
        (candidate.astype(float) - champion, found.difference_interval),
        (candidate, found.candidate_interval),
        (champion, found.champion_interval),
    ):
        oracle = stats.bootstrap(
            [values.astype(float)], np.mean, method="percentile", n_resamples=5000, random_state=1
        )
        assert interval == pytest.approx(tuple(oracle.confidence_interval), abs=0.003)
    assert (found.difference, found.won, found.lost) == (pytest.approx(0.03), 90, 60)


def test_interval_of_the_difference_knows_that_the_images_are_the_same():
    candidate, champion = answers(both=500, won=10, lost=10, neither=480)
    found = compare(candidate, champion, Rule(0.02))
    widths = {
        name: np.diff(getattr(found, f"{name}_interval"))[0] for name in ("difference", "candidate", "champion")
    }
    assert widths["difference"] < 0.4 * min(widths["candidate"], widths["champion"])


@pytest.mark.parametrize(("n_images", "margin", "differing"), [(20, 0.05, 0.051), (50, 0.02, 0.2), (1000, 0.02, 0.2)])
def test_challenger_worse_by_the_margin_is_promoted_no_more_often_than_promised(n_images, margin, differing):
    random, rule = np.random.default_rng(3), Rule(margin, resamples=1000)
    shares = [1 - differing, (differing - margin) / 2, (differing + margin) / 2]
    promoted = 0
    for both, won, lost in random.multinomial(n_images, shares, size=400):
        promoted += is_not_worse(compare(*answers(both=both, won=won, lost=lost), rule), rule)
    # 2.5% promised; 5% is three standard errors above it.
    assert promoted / 400 < 0.05


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    pair = answers(both=60, won=12, lost=9, neither=19)
    assert compare(*pair, Rule(0.1, seed=1)) == compare(*pair, Rule(0.1, seed=1))
    assert compare(*pair, Rule(0.1, seed=1)) != compare(*pair, Rule(0.1, seed=2))


@pytest.mark.parametrize(
    ("counts", "rule", "passes", "words"),
    [
        ({"both": 900, "won": 60, "lost": 10}, Rule(0.02), True, "better by 0.0515"),
        ({"both": 5000, "won": 10, "lost": 10}, Rule(0.02), True, "no difference"),
        (
            {"both": 900, "won": 40, "lost": 45},
            Rule(0.02),
            False,
            "cannot be ruled out. With answers like these",
        ),
        ({"both": 900, "lost": 90}, Rule(0.02), False, "the loss is larger than the 0.0200"),
        ({"both": 90, "won": 3, "lost": 7}, Rule(0.02), False, "even the measured difference is below that"),
        ({"both": 90, "won": 3, "lost": 4}, Rule(0.02, judged_by="estimate"), True, "worse by 0.0103"),
        ({"both": 90, "won": 3, "lost": 7}, Rule(0.02, judged_by="estimate"), False, "allows a loss of 0.0200"),
        ({"both": 50}, Rule(0.0), False, "even the measured difference"),
    ],
)
def test_rule_decides_and_says_why(counts, rule, passes, words):
    found = compare(*answers(**counts), rule)
    assert is_not_worse(found, rule) is passes
    assert words in in_words(found, 3) + why_not(found, rule)


def test_number_of_images_that_would_do_does():
    rule = Rule(0.02)
    found = compare(*answers(both=900, won=40, lost=45), rule)
    enough = int(why_not(found, rule).split("about ")[1].split()[0])
    times = enough / found.n_images
    more = compare(*answers(both=int(900 * times), won=int(40 * times), lost=int(45 * times)), rule)
    assert is_not_worse(more, rule)
    half = compare(*answers(both=int(450 * times), won=int(20 * times), lost=int(22.5 * times)), rule)
    assert not is_not_worse(half, rule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_regression": -0.1}, "max_regression is a difference of accuracies"),
        ({"max_regression": 1.1}, "received 1.1"),
        ({"max_regression": float("nan")}, "received nan"),
        ({"max_regression": 0.1, "judged_by": "hope"}, "received 'hope'"),
        ({"max_regression": 0.1, "confidence": 1.0}, "between 0 and 1"),
        ({"max_regression": 0.1, "confidence": 0.999, "resamples": 1000}, "needs 2000 resamples"),
    ],
)
def test_impossible_rule_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Rule(**settings)


@pytest.mark.parametrize("others", [np.ones(4, bool), np.ones((3, 1), bool)])
def test_answers_to_other_images_are_refused(others):
    with pytest.raises(ValueError, match="on the same images"):
        compare(np.ones(3, bool), others, Rule(0.1))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="one at least"):
        compare(np.zeros(0, bool), np.zeros(0, bool), Rule(0.1))
