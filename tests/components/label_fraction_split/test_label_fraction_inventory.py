import pytest

from components.label_fraction_split.inventory import ClassKeys, ordered_classes

CAT = ClassKeys("train", "cat", 0, ["a"])
DOG = ClassKeys("train", "dog", 1, ["b"])


def test_classes_are_listed_by_label_index():
    ant = ClassKeys("train", "ant", 2, ["c"])
    assert ordered_classes([ant, DOG, ClassKeys("test", "dog", 1, ["d"]), CAT]) == ["cat", "dog", "ant"]


def test_vocabulary_entry_without_training_example_is_refused_by_index():
    with pytest.raises(ValueError, match="label index 1 is in the vocabulary, but no training example"):
        ordered_classes([CAT, ClassKeys("train", "dog", 2, ["b"])])


@pytest.mark.parametrize(
    "odd",
    [ClassKeys("train", "dog", 0, ["b"]), ClassKeys("train", "cat", 1, ["b"]), ClassKeys("train", "dog", -1, ["b"])],
)
def test_index_that_is_not_one_to_one_is_refused(odd):
    with pytest.raises(ValueError, match="one label index of its own"):
        ordered_classes([CAT, odd])


def test_repeated_key_is_refused_by_name():
    with pytest.raises(ValueError, match="2 training examples of the class 'cat' have the key 'a'"):
        ordered_classes([ClassKeys("train", "cat", 0, ["a", "b", "a"])])


def test_one_class_alone_is_refused_by_name():
    with pytest.raises(ValueError, match="All 1 labelled training images are of the class 'cat'"):
        ordered_classes([CAT, ClassKeys("test", "cat", 0, ["d"])])


def test_no_training_examples_at_all_is_refused():
    with pytest.raises(ValueError, match="'train' split holds no example"):
        ordered_classes([])
