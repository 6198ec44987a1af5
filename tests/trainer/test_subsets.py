import numpy as np
import pytest
from example_files import random_images
from PIL import Image

from trainer import data, folders, subsets


def folder(root, names, *, seed=0):
    for name, image in zip(names, random_images(len(names), seed=seed), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / name)
    return folders.open_folder(str(root))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    names = [f"{('ant', 'bee')[index % 2]}/{index}.png" for index in range(20)]
    return folder(tmp_path_factory.mktemp("classes"), [*names, "none.png"])


def examples(files):
    return {
        batch["key"].decode(): (batch["label"], batch["image"].tobytes())
        for batch in data.evaluation_batches(files, size_px=8).unbatch().as_numpy_iterator()
    }


def checksums(files):
    return dict(zip((name.rsplit("/", 1)[-1] for name in files.names), files.checksums, strict=True))


def test_label_fraction_takes_the_same_share_of_each_class_and_nests(classes):
    whole, tenth, half = (subsets.label_fraction(classes, fraction, seed=1) for fraction in (1.0, 0.1, 0.5))
    assert [files.count for files in (whole, tenth, half)] == [20, 2, 10]
    assert sorted(half.labels) == [0] * 5 + [1] * 5
    assert set(tenth.names) < set(half.names) < set(whole.names) and "none.png" not in whole.names
    assert examples(half).items() <= examples(classes).items()
    assert checksums(half).items() <= checksums(classes).items() and len(set(checksums(classes).values())) == 21
    assert set(subsets.label_fraction(classes, 0.5, seed=2).names) != set(half.names)


def test_with_labels_of_the_same_folder_leaves_the_other_labels_out(classes):
    tenth = subsets.label_fraction(classes, 0.1, seed=1)
    joined = examples(subsets.with_labels_of(classes, tenth))
    assert len(joined) == 21
    for name, (label, image) in examples(classes).items():
        assert joined[name] == (label if name in tenth.names else -1, image)


def test_with_labels_of_another_folder_has_the_images_of_both(classes, tmp_path):
    unlabeled = folder(tmp_path, ["bee/x.png", "y.png"], seed=5)
    joined = subsets.with_labels_of(unlabeled, classes)
    assert joined.count == 23 and joined.classes == ("ant", "bee") and joined.canvas_px == (8, 8)
    assert checksums(joined) == checksums(classes) | checksums(unlabeled)
    found = list(examples(joined).values())
    expected = [*examples(classes).values(), *((-1, image) for _, image in examples(unlabeled).values())]
    assert sorted(found) == sorted(expected)
    np.testing.assert_array_equal(sorted(label for label, _ in found), [-1] * 3 + [0] * 10 + [1] * 10)
