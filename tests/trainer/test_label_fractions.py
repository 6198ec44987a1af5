import math
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.label_fractions import class_quotas, hash_rank, lies_in, select, smallest_fractions

FRACTIONS = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)
KEYS_BY_CLASS = st.dictionaries(
    st.sampled_from(["ant", "bee", "cat", "dog", "élan"]),
    st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=40),
    min_size=1,
)
# As ingestion gives them: no key is of two images.
DIFFERENT_KEYS = KEYS_BY_CLASS.map(lambda classes: {c: {f"{c}/{key}" for key in keys} for c, keys in classes.items()})
SEVERAL_FRACTIONS = st.lists(FRACTIONS, min_size=1, max_size=3, unique=True)
SEEDS = st.integers(0, 3)


@settings(deadline=None)  # the machine may be busy
@given(KEYS_BY_CLASS, st.tuples(FRACTIONS, FRACTIONS).map(sorted), SEEDS)
def test_smaller_fraction_lies_inside_larger(keys_by_class, fractions, seed):
    small, large = (select(keys_by_class, fraction, seed=seed) for fraction in fractions)
    for label in keys_by_class:
        assert large[label][: len(small[label])] == small[label]


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 50), st.integers(1, 30), FRACTIONS)
def test_classes_of_equal_size_differ_by_one_at_most_and_total_is_the_rounded_share(n, n_classes, fraction):
    quotas = class_quotas(fraction, {f"class {i}": n for i in range(n_classes)})
    assert max(quotas.values()) - min(quotas.values()) <= 1
    share = Fraction(str(fraction)) * n
    if share >= 1:
        assert sum(quotas.values()) == math.floor(share * n_classes + Fraction(1, 2))


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10_000), min_size=1, max_size=20), FRACTIONS)
def test_each_class_is_within_one_of_its_share_and_never_empty(sizes, fraction):
    for label, quota in class_quotas(fraction, sizes).items():
        share = Fraction(str(fraction)) * sizes[label]
        assert 1 <= quota <= sizes[label]
        assert abs(quota - share) < 1


@settings(deadline=None)  # the machine may be busy
@given(KEYS_BY_CLASS, FRACTIONS, SEEDS, st.randoms(use_true_random=False))
def test_reading_order_changes_nothing(keys_by_class, fraction, seed, random):
    shuffled = [(label, sorted(keys)) for label, keys in keys_by_class.items()]
    random.shuffle(shuffled)
    for _, keys in shuffled:
        random.shuffle(keys)
    assert select(dict(shuffled), fraction, seed=seed) == select(keys_by_class, fraction, seed=seed)


@settings(deadline=None)  # the machine may be busy
@given(KEYS_BY_CLASS, KEYS_BY_CLASS, FRACTIONS, SEEDS)
def test_added_data_leaves_the_chosen_old_keys_a_prefix_of_the_old_order(old, added, fraction, seed):
    grown = {label: old.get(label, set()) | added.get(label, set()) for label in old | added}
    chosen = select(grown, fraction, seed=seed)
    for label, old_keys in old.items():
        old_order = sorted(old_keys, key=lambda key: hash_rank(key, seed=seed))
        chosen_old = [key for key in chosen[label] if key in old_keys]
        assert chosen_old == old_order[: len(chosen_old)]


@settings(deadline=None)  # the machine may be busy
@given(KEYS_BY_CLASS, st.sets(st.text(min_size=5, max_size=8), max_size=30), FRACTIONS, SEEDS)
def test_data_added_to_one_class_leaves_the_other_classes_alone(old, added, fraction, seed):
    grown_label = min(old)
    before = select(old, fraction, seed=seed)
    after = select({**old, grown_label: old[grown_label] | added}, fraction, seed=seed)
    assert {**before, grown_label: None} == {**after, grown_label: None}


def test_another_seed_chooses_other_keys():
    keys = {"cat": [f"image-{i}" for i in range(100)]}
    assert select(keys, 0.1, seed=0) != select(keys, 0.1, seed=1)


def test_decimal_fraction_is_taken_as_written():
    # In binary, 0.29 · 100 falls short of 29.
    assert class_quotas(0.29, {"cat": 100}) == {"cat": 29}


def test_imagenet_like_classes_get_twelve_or_thirteen():
    quotas = class_quotas(0.01, {f"class {i:03}": 1281 for i in range(1000)})
    assert set(quotas.values()) == {12, 13}
    assert sum(quotas.values()) == 12_810


def held(smallest, keys, fraction):
    return {key for key in keys if lies_in(smallest[key], fraction)}


@settings(deadline=None)  # the machine may be busy
@given(DIFFERENT_KEYS, SEVERAL_FRACTIONS, SEEDS)
def test_smallest_fractions_of_a_first_choice_are_those_that_are_selected(keys_by_class, fractions, seed):
    smallest = smallest_fractions(keys_by_class, fractions, seed=seed)
    for fraction in fractions:
        chosen = select(keys_by_class, fraction, seed=seed)
        for label, keys in keys_by_class.items():
            assert held(smallest, keys, fraction) == set(chosen[label])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(DIFFERENT_KEYS, min_size=2, max_size=4), SEVERAL_FRACTIONS, SEEDS)
@example([{"bee": {"bee/0", "bee/1", "bee/2", "bee/3"}}, {"ant": {"ant/0"}}], [0.313], 0)
@example([{"cat": {"1"}}, {"cat": {"1", "2", "3", "4"}}], [0.5], 0)
@example([{"ant": set("abcdef"), "bee": {"z"}}, {"ant": {"g"}}], [0.25, 0.292], 0)
def test_as_labels_arrive_no_image_changes_its_fractions_and_each_class_has_its_quota(arrivals, fractions, seed):
    known, smallest = {}, {}
    for arrived in arrivals:
        known = {label: known.get(label, set()) | arrived.get(label, set()) for label in known | arrived}
        before, smallest = smallest, smallest_fractions(known, fractions, seed=seed, earlier=smallest)
        assert before.items() <= smallest.items()
        # A class that came in between takes a place in the alphabet, by which the others' shares round.
        slack = int(known.keys() != arrivals[0].keys())
        for n_smaller, fraction in enumerate(sorted(fractions)):
            quotas = class_quotas(fraction, {label: len(keys) for label, keys in known.items()})
            for label, keys in known.items():
                surplus = len(held(smallest, keys, fraction)) - quotas[label]
                assert -slack <= surplus <= n_smaller + slack


def test_without_the_earlier_choice_an_image_would_change_its_fraction():
    keys = [f"image-{number}" for number in range(400)]
    smallest = {}
    for count in range(100, 401, 20):
        before, smallest = smallest, smallest_fractions({"cat": keys[:count]}, [0.1], seed=0)
        if not before.items() <= smallest.items():
            return
    raise AssertionError("the boundary never moved: the test above would pass without an earlier choice")


def test_images_that_go_and_come_back_are_where_they_were_and_no_class_is_ever_left_out():
    keys = [f"image-{number}" for number in range(20)]
    first = smallest_fractions({"cat": keys}, [0.1, 0.5], seed=0)
    tenth, half = (held(first, keys, fraction) for fraction in (0.1, 0.5))
    left = [key for key in keys if key not in tenth]
    shrunk = smallest_fractions({"cat": left}, [0.1, 0.5], seed=0, earlier=first)
    # The nearest one moves into it: of the next larger fraction, that of the smallest hash.
    moved = min(half - tenth, key=lambda key: hash_rank(key, seed=0))
    assert {key for key in left if shrunk[key] != first[key]} == {moved} and shrunk[moved] == 0.1
    again = smallest_fractions({"cat": keys}, [0.1, 0.5], seed=0, earlier=first | shrunk)
    assert again == first | shrunk
