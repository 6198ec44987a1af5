import io

import numpy as np
import pytest
import tensorflow as tf
from example_files import random_images, read_all, save
from PIL import Image

from trainer import data, folders, images


@pytest.fixture
def stored(tmp_path):
    """A folder with every format, nested, with classes, odd endings, and files that are no images."""
    pixels = random_images(6, height=12, width=16)
    for image, name in zip(
        pixels,
        ["dog/one.JPG", "dog/old/two.jpeg", "cat/three.png", "cat/four.gif", "ant/five.BMP", "six.png"],
        strict=True,
    ):
        save(tmp_path / name, image)
    (tmp_path / "README.txt").write_text("no image")
    (tmp_path / "cat" / "._three.png").write_bytes(b"what some systems leave beside a file")
    (tmp_path / "empty").mkdir()
    return tmp_path, dict(zip(["one", "two", "three", "four", "five", "six"], pixels, strict=True))


def test_open_folder_finds_every_format_and_labels_by_the_first_folder(stored):
    folder = data.open_folder(str(stored[0]))
    assert folder.classes == ("ant", "cat", "dog")
    assert dict(zip(folder.names, folder.labels, strict=True)) == {
        "ant/five.BMP": 0,
        "cat/four.gif": 1,
        "cat/three.png": 1,
        "dog/old/two.jpeg": 2,
        "dog/one.JPG": 2,
        "six.png": -1,
    }
    assert (folder.count, folder.short_side_px, folder.canvas_px) == (6, 12, (12, 16))


def test_image_folder_reads_what_the_files_show(stored):
    root, pixels = stored
    folder = data.open_folder(f"{root}/")
    for example, name in zip(read_all(folder), folder.names, strict=True):
        assert example["key"].numpy().decode() == name
        shown = np.array(Image.open(root / name).convert("RGB"), np.int32)
        np.testing.assert_allclose(example["image"], shown, atol=4 if "dog" in name else 0, err_msg=name)
        if name.endswith((".png", ".BMP")):
            np.testing.assert_array_equal(example["image"], pixels[name.split("/")[-1].split(".")[0]])


def test_image_folder_resizes_as_ingestion_does(tmp_path):
    for index, (height, width) in enumerate([(40, 60), (90, 20), (24, 24)]):
        save(tmp_path / f"{index}.png", random_images(1, height=height, width=width)[0])
    folder = data.open_folder(str(tmp_path), short_side_px=24)
    encoded = tf.stack([tf.io.read_file(str(tmp_path / name)) for name in folder.names])
    for example, png in zip(read_all(folder), images.canonical_png(encoded, short_side_px=24), strict=True):
        np.testing.assert_array_equal(example["image"], tf.io.decode_png(png, channels=3))
    assert (folder.short_side_px, folder.canvas_px) == (24, (48, 36))


def test_open_folder_without_a_size_takes_the_shortest_side(tmp_path):
    for index, (height, width) in enumerate([(40, 60), (90, 20), (24, 24)]):
        save(tmp_path / f"{index}.png", random_images(1, height=height, width=width)[0])
    assert data.open_folder(str(tmp_path)).short_side_px == 20


def test_open_folder_unlabelled_files_have_no_classes(tmp_path):
    save(tmp_path / "a.png", random_images(1)[0])
    folder = data.open_folder(str(tmp_path))
    assert folder.classes == () and folder.labels == (-1,)


def test_open_folder_without_images_is_refused_with_the_endings(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"no image in .* must end in one of \.jpg"):
        data.open_folder(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"\xff\xd8\xff"])
def test_open_folder_file_that_is_no_image_is_named(stored, content):
    (stored[0] / "cat" / "broken.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"cat/broken\.jpg is no image that can be read: mend it or take it away"):
        data.open_folder(str(stored[0]))


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "bmp"])
@pytest.mark.parametrize("held", [True, False])
def test_training_batches_truncated_file_is_named(tmp_path, ending, held):
    for index in range(4):
        save(tmp_path / "class" / f"{index}.{ending}", random_images(1, height=40, width=40, seed=index)[0])
    broken = tmp_path / "class" / f"2.{ending}"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 3 // 4])
    folder = data.open_folder(str(tmp_path))
    if not held:
        vars(folder)["held"] = folder
    with pytest.raises(ValueError, match=rf"class/2\.{ending} is no image"), data.naming_unreadable(folder):
        list(data.training_batches(folder, batch_size=2, epochs=1, seed=0))


def test_naming_unreadable_leaves_other_errors_alone(stored):
    with pytest.raises(tf.errors.InvalidArgumentError), data.naming_unreadable(data.open_folder(str(stored[0]))):
        tf.reshape(tf.zeros([3]), [2])


def test_open_folder_jpeg_with_long_metadata_is_measured(tmp_path):
    buffer = io.BytesIO()
    image = Image.fromarray(random_images(1, height=12, width=16)[0])
    image.save(buffer, "JPEG", icc_profile=bytes(200_000))
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    (tmp_path / "b.jpg").write_bytes(buffer.getvalue()[:-3] + b"\0\xff\xd9")  # another one behind the metadata
    folder = data.open_folder(str(tmp_path))
    assert folder.canvas_px == (12, 16) and folder.checksums[0] != folder.checksums[1]


def test_in_both_finds_the_same_bytes_under_any_name_and_no_others(tmp_path):
    pixels = random_images(3, height=200, width=200)
    for name, image in zip(["train/a/1.png", "train/a/2.png", "test/b/3.png"], pixels, strict=True):
        save(tmp_path / name, image)
    train, test = tmp_path / "train", tmp_path / "test"
    copy = test / "b" / "other.png"
    copy.write_bytes((train / "a" / "2.png").read_bytes())
    # As long as what is read to measure a file, so that only the rest tells them apart.
    (test / "b" / "4.png").write_bytes((train / "a" / "1.png").read_bytes() + b"\0")
    opened = [folders.open_folder(str(path)) for path in (train, test)]
    assert len(set(opened[0].checksums) & set(opened[1].checksums)) == 2
    assert folders.in_both(*opened) == [(str(train / "a" / "2.png"), str(copy))]
