"""The executor end to end on Beam's in-memory runner: sources, labels, duplicates, limits."""

import hashlib
import io
import json
import os
import subprocess
import sys

import ingest_fixtures as fixtures
import numpy as np
import pytest
from ingest_fixtures import ingest, png, source, tar_bytes, write_files, zip_bytes
from PIL import Image

from components.image_example_gen.component import ImageExampleGen
from components.image_example_gen.dedupe import is_held_out
from pipeline.runners.beam_processes import beam_pipeline_args

_TWO_CLASSES = {f"{label}/{seed}.png": png(10 * at + seed) for at, label in enumerate("ab") for seed in range(3)}


@pytest.fixture
def images(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_mixed_folder_is_read_whole(images, out):
    write_files(
        images,
        {
            "flat.png": png(1),
            "deep/er/nested.jpg": fixtures.encode(fixtures.pixels(2), "JPEG"),
            "photo.webp": fixtures.encode(fixtures.pixels(3), "WEBP"),
            "shards/0.tar": tar_bytes({"t1.png": png(4), "sub/t2.png": png(5)}),
            "shards/1.tar.gz": tar_bytes({"t3.png": png(6)}, mode="w:gz"),
            "more.zip": zip_bytes({"z1.png": png(7), ".hidden.png": png(8)}),
            ".hidden/x.png": png(9),
            "Thumbs.db": b"litter",
            "notes.txt": b"I am no image",
        },
    )
    run = ingest(out, source(images))
    assert run.keys() == ["deep/er/nested", "flat", "photo", "sub/t2", "t1", "t3", "z1"]
    assert run.reasons() == {"notes.txt": "not_an_image"}
    counts = {"read": 8, "kept": 7, "duplicate": 0, "rejected": 1}
    assert run.summary["unlabeled"] == {**counts, "reasons": {"not_an_image": 1}, "splits": {"train": 7}}
    assert list(run.examples) == ["train"]


def test_an_example_holds_what_the_contract_says(images, out):
    data = fixtures.encode(Image.fromarray(fixtures.pixels(1)).convert("RGBA"))
    write_files(images, {"cat/1.png": data})
    (example,) = ingest(out, source(images, "labeled")).examples["train"]
    stored = Image.open(io.BytesIO(example.pop("image_bytes")))
    np.testing.assert_array_equal(np.asarray(stored), fixtures.pixels(1))
    assert example == {
        "key": b"cat/1",
        "label": b"cat",
        "source_uri": f"{images}/cat/1.png".encode(),
        "sha256": hashlib.sha256(data).hexdigest().encode(),
        "width": 6,
        "height": 5,
        "format": b"png",
        "source_format": b"png",
    }


def test_tfrecords_of_an_earlier_run_are_read_back_as_they_were(images, out, tmp_path):
    write_files(images, _TWO_CLASSES)
    first = ingest(tmp_path / "first", source(images, "labeled"))
    second = ingest(out, source(tmp_path / "first" / "examples" / "Split-train", "labeled"))
    assert second.labels() == first.labels()
    assert {e["sha256"] for e in second.examples["train"]} == {e["sha256"] for e in first.examples["train"]}


def test_resharding_and_order_change_neither_keys_nor_bytes(images, out, tmp_path):
    members = {f"{seed}.png": png(seed) for seed in range(10)}
    one = write_files(tmp_path / "one", {"0.tar": tar_bytes(members)})
    halves = [dict(list(members.items())[start : start + 5]) for start in (0, 5)]
    two = write_files(tmp_path / "two", {f"{n}.tar": tar_bytes(half) for n, half in enumerate(reversed(halves))})
    runs = [ingest(tmp_path / f"out{n}", source(path)) for n, path in enumerate((one, two))]
    assert runs[0].keys() == runs[1].keys() == sorted(str(seed) for seed in range(10))
    again = ingest(out, source(one))
    assert again.files == runs[0].files


def test_two_processes_write_the_same_bytes_as_one(images, out, tmp_path):
    write_files(images, _TWO_CLASSES | {"broken.png": b"", "copy.png": _TWO_CLASSES["a/0.png"]})
    alone = ingest(out, source(images))
    assert ingest(tmp_path / "out2", source(images), beam_args=beam_pipeline_args(2)).files == alone.files


@pytest.mark.parametrize("pattern", ["*.png", "?/*.png", "a/0.png"])
def test_globs_and_single_files_are_read(images, out, pattern):
    write_files(images, {**_TWO_CLASSES, "c.png": png(99)})
    kept = {"*.png": 1, "?/*.png": 6, "a/0.png": 1}[pattern]
    assert ingest(out, source(images / pattern)).summary["unlabeled"]["kept"] == kept


class TestDuplicatesAndKeys:
    def test_equal_contents_are_kept_once_under_the_first_uri(self, images, out):
        write_files(
            images, {"b.png": png(1), "a.png": png(1), "c.zip": zip_bytes({"a.png": png(1)}), "d.png": png(2)}
        )
        run = ingest(out, source(images))
        assert run.keys() == ["a", "d"]
        assert [run.summary["unlabeled"][n] for n in ("read", "kept", "duplicate")] == [4, 2, 2]

    def test_a_test_image_is_never_also_a_train_image(self, tmp_path, out):
        train = write_files(tmp_path / "train", {"a/1.png": png(1), "a/2.png": png(2)})
        test = write_files(tmp_path / "zz", {"a/9.png": png(1)})
        run = ingest(out, source(train, "labeled"), source(test, "test"))
        assert (run.keys("train"), run.keys("test")) == (["a/2"], ["a/9"])
        assert run.summary["labeled"]["duplicate"] == 1 and run.summary["test"]["kept"] == 1

    def test_different_images_of_one_key_all_get_a_suffix(self, tmp_path, out):
        write_files(tmp_path / "in", {"0.tar": tar_bytes({"x.png": png(1)}), "1.tar": tar_bytes({"x.jpg": png(2)})})
        digests = [hashlib.sha256(png(seed)).hexdigest()[:8] for seed in (1, 2)]
        assert ingest(out, source(tmp_path / "in")).keys() == sorted(f"x-{digest}" for digest in digests)

    def test_conflicting_labels_reject_every_copy(self, images, out):
        write_files(images, {"a/1.png": png(1), "b/2.png": png(1), "b/3.png": png(1), "b/4.png": png(2)})
        run = ingest(out, source(images, "labeled"))
        assert run.keys() == ["b/4"]
        assert run.reasons() == dict.fromkeys(["1.png", "2.png", "3.png"], "conflicting_labels")
        assert "'a', 'b'" in run.rejects[0]["detail"]

    def test_images_of_an_excluded_test_split_are_duplicates(self, tmp_path, out):
        test = write_files(tmp_path / "test", {"a/1.png": png(1)})
        exclude = ingest(tmp_path / "labelled", source(test, "test")).artifact
        write_files(tmp_path / "pool", {"p.png": png(1), "q.png": png(2)})
        run = ingest(out, source(tmp_path / "pool"), exclude=exclude)
        assert run.keys() == ["q"]
        assert run.summary["unlabeled"]["duplicate"] == run.summary["unlabeled"]["duplicate_of_excluded"] == 1


class TestLabels:
    def test_the_immediate_folder_is_the_class(self, images, out):
        write_files(images, {"train/cat/1.png": png(1), "dog.tar": tar_bytes({"x/dog/2.png": png(2)})})
        run = ingest(out, source(images, "labeled"))
        assert run.labels() == {"train/cat/1": "cat", "x/dog/2": "dog"}
        assert run.summary["labeled"]["classes"] == {"cat": 1, "dog": 1}

    def test_class_files_label_webdataset_shards_and_what_is_unpacked_from_them(self, images, out):
        members = {"1.png": png(1), "1.cls": b"7"}
        write_files(images, {"s/0.tar": tar_bytes(members), "s/2.png": png(2), "s/2.cls": b"cat"})
        assert ingest(out, source(images, "labeled")).labels() == {"1": "7", "s/2": "cat"}

    @pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.jsonl", "anything.csv"])
    def test_a_manifest_in_the_folder_is_found(self, images, out, name):
        rows = {"1.png": "x", "sub/2": "y", "gone.png": "z"}
        write_files(images, {"1.png": png(1), "sub/2.png": png(2), name: _manifest(rows, name)})
        run = ingest(out, source(images, "labeled"))
        assert run.labels() == {"1": "x", "sub/2": "y"}
        assert run.summary["labeled"]["manifest_unmatched"] == 1 and run.summary["labeled"]["read"] == 2

    @pytest.mark.parametrize("name", ["labels.csv", "train.csv"])
    def test_a_manifest_beside_an_archive_is_found(self, images, out, name):
        write_files(images, {"train.tar": tar_bytes({"1.png": png(1)}), name: _manifest({"1": "x"}, name)})
        assert ingest(out, source(images / "train.tar", "labeled")).labels() == {"1": "x"}

    def test_a_manifest_as_the_path_brings_its_folder(self, images, out):
        write_files(
            images, {"a.tar": tar_bytes({"1.png": png(1)}), "m.csv": _manifest({"1": "x", "2": "y"}, "m.csv")}
        )
        write_files(images, {"2.png": png(2)})
        assert ingest(out, source(images / "m.csv", "labeled")).labels() == {"1": "x", "2": "y"}

    def test_an_explicit_manifest_outranks_class_folders(self, images, out, tmp_path):
        write_files(images, {"cat/1.png": png(1)})
        write_files(tmp_path, {"m.csv": _manifest({"images/cat/1.png": "tiger"}, "m.csv")})
        run = ingest(out, source(images, "labeled", manifest=str(tmp_path / "m.csv")))
        assert run.labels() == {"cat/1": "tiger"}

    def test_a_base_name_that_fits_several_images_labels_none(self, images, out):
        rows = {"1.png": "x", "2.png": "y", "3.png": "z"}
        files = {"p/1.png": png(1), "q/1.png": png(2), "q/2.png": png(3), "3.png": png(4), "q/3.png": png(5)}
        run = ingest(
            out, source(write_files(images, {**files, "labels.csv": _manifest(rows, "labels.csv")}), "labeled")
        )
        assert run.labels() == {"q/2": "y", "3": "z"}
        assert run.summary["labeled"]["reasons"] == {"no_label": 3}
        assert "fits several images" in run.rejects[0]["detail"]

    def test_a_split_column_outranks_the_holdout(self, images, out):
        rows = "path,label,split\n1,x,train\n2,x,test\n3,x,val\n4,x,\n"
        write_files(images, {f"{seed}.png": png(seed) for seed in range(1, 5)} | {"labels.csv": rows.encode()})
        run = ingest(out, source(images, "labeled"), holdout_fraction=0.999)
        assert (run.keys("train"), run.keys("test")) == (["1"], ["2", "3", "4"])

    def test_images_without_a_label_are_rejected(self, images, out):
        run = ingest(out, source(write_files(images, {"a/1.png": png(1), "2.png": png(2)}), "labeled"))
        assert (run.keys(), run.reasons()) == (["a/1"], {"2.png": "no_label"})

    def test_no_label_at_all_is_an_error_that_says_how_to_give_them(self, images, out):
        write_files(images, {"1.png": png(1)})
        with pytest.raises(ValueError, match=r"none of the 1 images .* has a label") as caught:
            ingest(out, source(images, "labeled"))
        assert all(way in str(caught.value) for way in (str(images), "folders named", ".cls", "labels.csv"))


def _manifest(rows: dict[str, str], name: str) -> bytes:
    if name.endswith(".jsonl"):
        return "".join(f"{json.dumps({'path': path, 'label': rows[path]})}\n" for path in rows).encode()
    comma = "\t" if name.endswith(".tsv") else ","
    return "".join(f"{path}{comma}{label}\n" for path, label in {"path": "label", **rows}.items()).encode()


class TestHoldout:
    def test_the_held_out_share_is_decided_by_each_key_alone(self, images, out, tmp_path):
        few = {f"a/{n}.png": png(n) for n in range(20)}
        more = few | {f"b/{n}.png": png(100 + n) for n in range(20)}
        runs = [
            ingest(
                tmp_path / f"out{n}", source(write_files(tmp_path / f"in{n}", files), "labeled"), holdout_fraction=0.3
            )
            for n, files in enumerate((few, more))
        ]
        assert set(runs[0].keys("test")) == {key for key in runs[1].keys("test") if key.startswith("a/")}
        assert runs[1].keys("test") == [key for key in sorted(_keys(more)) if is_held_out(key, 0.3)]

    def test_about_the_stated_share_is_held_out(self):
        assert 900 < sum(is_held_out(f"key{n}", 0.1) for n in range(10_000)) < 1_100

    def test_an_unlabelled_source_is_never_held_out(self, images, out):
        run = ingest(out, source(write_files(images, _TWO_CLASSES)), holdout_fraction=0.9)
        assert list(run.examples) == ["train"] and len(run.keys()) == 6

    def test_a_class_of_held_out_images_only_keeps_one_for_training(self, images, out):
        rare = _held_out_names("rare/{}", 2)
        files = {f"{name}.png": png(seed) for seed, name in enumerate(rare)} | {
            f"many/{n}.png": png(100 + n) for n in range(40)
        }
        run = ingest(out, source(write_files(images, files), "labeled"), holdout_fraction=0.3)
        left = [name for name in rare if name in run.keys("train")]
        assert len(left) == 1
        assert run.keys("test") == [key for key in sorted(_keys(files)) if is_held_out(key, 0.3) and key not in left]
        assert run.summary["labeled"]["kept"] == 42

    def test_a_held_out_copy_does_not_take_the_class_last_image(self, images, out):
        (held_out,) = _held_out_names("rare/{}", 1)
        trains = next(f"rare/{n}" for n in range(100, 200) if not is_held_out(f"rare/{n}", 0.3))
        files = {f"{held_out}.png": png(1), f"{trains}.png": png(1)} | {
            f"many/{n}.png": png(100 + n) for n in range(40)
        }
        run = ingest(out, source(write_files(images, files), "labeled"), holdout_fraction=0.3)
        assert [key for key in run.keys("train") if key.startswith("rare/")] == [min(held_out, trains)]

    def test_a_class_whose_other_images_the_manifest_tests_on_keeps_one_for_training(self, images, out):
        rows = "path,label,split\n1,x,test\n2,x,\n3,y,test\n4,y,train\n"
        write_files(images, {f"{seed}.png": png(seed) for seed in range(1, 5)} | {"labels.csv": rows.encode()})
        run = ingest(out, source(images, "labeled"), holdout_fraction=0.999)
        assert (run.keys("train"), run.keys("test")) == (["2", "4"], ["1", "3"])


def _held_out_names(pattern, count):
    held_out = (pattern.format(n) for n in range(100) if is_held_out(pattern.format(n), 0.3))
    return [name for name, _ in zip(held_out, range(count), strict=False)]


def _keys(files):
    return [name.removesuffix(".png") for name in files]


class TestRejects:
    def test_links_out_of_the_folder_are_not_followed(self, images, out, tmp_path):
        secret = write_files(tmp_path / "secret", {"s.png": png(1)})
        write_files(images, {"real.png": png(2)})
        (images / "inside.png").symlink_to(images / "real.png")
        (images / "outside.png").symlink_to(secret / "s.png")
        (images / "folder").symlink_to(secret)
        (images / "dangling.png").symlink_to(images / "nowhere.png")
        os.mkfifo(images / "pipe.png")
        run = ingest(out, source(images))
        assert run.reasons() == {
            "outside.png": "link",
            "folder": "link",
            "dangling.png": "unreadable",
            "pipe.png": "not_a_file",
        }
        assert run.summary["unlabeled"]["duplicate"] == 1

    def test_hostile_names_break_nothing(self, images, out):
        odd = ["new\nline.png", "emoji \N{CAT FACE}.png", "quote\"'\\.png", "\u2028.png"]
        write_files(images, {name: png(n) for n, name in enumerate(odd)} | {f"bad{name}": b"" for name in odd})
        (images / os.fsdecode(b"caf\xe9.png")).write_bytes(png(50))
        (images / os.fsdecode(b"caf\xe9.bad")).write_bytes(b"")
        run = ingest(out, source(images))
        assert run.keys() == sorted([*(name.removesuffix(".png") for name in odd), "caf\\xe9"])
        assert len(run.rejects) == 5 and run.summary["unlabeled"]["reasons"] == {"empty": 5}

    def test_a_broken_archive_counts_as_one_read_and_rejected(self, images, out):
        data = tar_bytes({f"{n}.png": fixtures.encode(fixtures.pixels(n, size=(30, 30))) for n in range(3)})
        run = ingest(out, source(write_files(images, {"cut.tar": data[: len(data) // 3]})))
        assert run.reasons() == {"cut.tar": "broken_archive"}
        account = run.summary["unlabeled"]
        assert account["read"] == account["kept"] + 1 and account["kept"] >= 1

    def test_more_rejects_than_allowed_fail_the_run_and_say_why(self, images, out):
        write_files(images, {"1.png": png(1), "2.png": b"", "3.txt": b"hello"})
        with pytest.raises(ValueError, match=r"2 of 3 images .* were rejected") as caught:
            ingest(out, source(images), max_rejected_share=0.5)
        message = str(caught.value)
        assert "max_rejected_share" in message
        assert f"1 x empty, for example {images}/2.png" in message and "1 x not_an_image" in message

    def test_rejects_up_to_the_allowed_share_pass(self, images, out):
        write_files(images, {"1.png": png(1), "2.png": b""})
        assert ingest(out, source(images), max_rejected_share=0.5).keys() == ["1"]


class TestUserErrors:
    def test_a_path_that_does_not_exist_is_named(self, tmp_path, out):
        for path in (tmp_path / "nowhere", tmp_path / "*.png"):
            with pytest.raises(ValueError, match="does not exist or matches no file") as caught:
                ingest(out, source(path))
            assert str(path) in str(caught.value)

    def test_an_empty_folder_is_named(self, images, out):
        images.mkdir()
        with pytest.raises(ValueError, match=f"{images} holds no files"):
            ingest(out, source(images))

    def test_a_split_without_images_is_named_with_its_path(self, images, out):
        write_files(images, {"1.png": b""})
        with pytest.raises(ValueError, match="No image is left for the split 'train'") as caught:
            ingest(out, source(images))
        assert str(images) in str(caught.value) and "1 x empty" in str(caught.value)

    def test_a_holdout_that_takes_nothing_is_an_error_that_names_the_setting(self, images, out):
        with pytest.raises(ValueError, match="holdout_fraction"):
            ingest(out, source(write_files(images, {"a/1.png": png(1)}), "labeled"), holdout_fraction=1e-9)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("holdout_fraction", 1.0), ("max_pixels", 0), ("max_rejected_share", 1.5), ("num_shards", 0)],
    )
    def test_a_parameter_out_of_range_is_named(self, images, out, name, value):
        with pytest.raises(ValueError, match=f"{name} must be"):
            ingest(out, source(images), **{name: value})

    @pytest.mark.parametrize("text", ["no json", "[]", "[{}]", '[{"name": "a", "split": "x"}]'])
    def test_sources_that_are_no_list_of_sources_are_refused(self, out, text):
        with pytest.raises(ValueError, match="sources:"):
            ImageExampleGen.EXECUTOR_SPEC.executor_class().Do(
                {},
                {"examples": [fixtures.standard_artifacts.Examples()], "summary": [fixtures.IngestSummary()]},
                {"sources": text, "holdout_fraction": 0, "max_pixels": 1, "max_rejected_share": 1, "num_shards": 1},
            )


def test_the_component_takes_an_id_and_an_optional_exclusion():
    labelled = ImageExampleGen("[]", fingerprint="abc").with_id("LabelledImages")
    unlabelled = ImageExampleGen("[]", exclude=labelled.outputs["examples"]).with_id("UnlabelledImages")
    assert unlabelled.id == "UnlabelledImages" and set(unlabelled.outputs) == {"examples", "summary"}


def test_a_beam_worker_imports_neither_tensorflow_nor_tfx():
    code = (
        "import sys, components.image_example_gen.ingest\n"
        "assert not {'tensorflow', 'tfx', 'tfx_bsl'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_statistics_gen_reads_the_examples(images, out, tmp_path):
    tfdv = pytest.importorskip("tensorflow_data_validation")
    run = ingest(out, source(write_files(images, _TWO_CLASSES), "labeled"), num_shards=16)
    statistics = tfdv.generate_statistics_from_tfrecord(f"{run.artifact.uri}/Split-train/*")
    assert statistics.datasets[0].num_examples == 6
