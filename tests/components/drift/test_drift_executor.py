"""Drift on a store of the sample's images and a served model: what is found, shown, said, and stopped."""

import hashlib
import io
import json
import logging

import numpy as np
import pytest
import span_fixtures
import tensorflow as tf
from PIL import Image, ImageOps
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import DriftFindings
from components.drift import appearance, two_sample
from components.drift.executor import Executor
from components.drift.findings import DriftedError
from components.drift.settings import DriftConfig
from components.push.versions import VersionedDirectory
from components.span_ingest.settings import RetrainConfig
from components.span_ingest.store import SpanStore

CLASSES = ["cat", "frog", "ship"]


class Embedder(tf.Module):
    """A champion that sees an image as its 4x4 copy."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def embed(self, image_bytes):
        def see(encoded):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return tf.reshape(tf.image.resize(image, [4, 4], antialias=True) / 255.0, [48])

        return {"embedding": tf.map_fn(see, image_bytes, fn_output_signature=tf.TensorSpec([48], tf.float32))}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    model, folder = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("pushed")
    module = Embedder()
    tf.saved_model.save(module, str(model), signatures={"embed": module.embed})
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "classes.json").write_text(json.dumps(CLASSES))
    directory = VersionedDirectory(str(folder))
    with directory.exclusive():
        directory.crown(directory.add(str(model), model_fingerprint="f"))
    return str(folder)


@pytest.fixture(scope="module")
def images(sample_pngs):
    """120 images by key, in an order that has nothing to do with their class."""
    named = [
        (f"{label}{number}", png, label) for label, pngs in sample_pngs.items() for number, png in enumerate(pngs)
    ]
    return [named[place] for place in np.random.default_rng(0).permutation(len(named))]


def changed(images, change):
    made = []
    for key, png, label in images:
        written = io.BytesIO()
        change(Image.open(io.BytesIO(png)).convert("RGB")).save(written, "PNG")
        made.append((key, written.getvalue(), label))
    return made


def inverted(images):
    return changed(images, ImageOps.invert)


def labeled_examples(directory, train, test):
    for split, images in {"train": train, "test": test}.items():
        uri = directory / f"Split-{split}"
        uri.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(uri / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
            for key, png, label in images:
                values = {"key": key, "image_bytes": png, "label": label, "sha256": hashlib.sha256(png).hexdigest()}
                example = tf.train.Example()
                for name, value in values.items():
                    value = value.encode() if isinstance(value, str) else value
                    example.features.feature[name].bytes_list.value.append(value)
                writer.write(example.SerializeToString())
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(directory), artifact_utils.encode_split_names(["train", "test"])
    return artifact


def delivered(store, source, images):
    """Makes a delivery the next span."""
    folder = source / str(store.next_number(store.spans()))
    span_fixtures.write_files(folder, {f"{key}.png": png for key, png, _ in images})
    return span_fixtures.run(store, source, max_pixels=10**6)


def window_after(last):
    """What SpanIngest gives of the deliveries: of this Drift reads no file."""
    artifact = standard_artifacts.Examples()
    artifact.set_int_custom_property("span", last.spans[-1].number)
    return artifact


@pytest.fixture
def run(pushed, tmp_path):
    def run(new, old, *, labeled=(), test=(), folder=pushed, retrain=None, **settings):
        """Deliveries of a completed run, then of this one: each a list of images, or a list of such lists."""
        store, source = SpanStore(str(tmp_path / "store")), tmp_path / "source"
        for images in _deliveries(old):
            store.mark_trained(delivered(store, source, images).spans[-1].number)
        for images in _deliveries(new):
            last = delivered(store, source, images)
        drift = DriftFindings()
        drift.uri = str(tmp_path / "drift")
        inputs = {
            "unlabeled": [window_after(last)],
            "labeled": [labeled_examples(tmp_path / "labeled", labeled, test)],
        }
        parameters = {
            "pushed": folder,
            "retrain": RetrainConfig(store=store.folder.path, **(retrain or {})).model_dump_json(),
            "config": DriftConfig(**{"permutations": 399, "shown": 3, **settings}).model_dump_json(),
            "seed": 0.0,
            "code_version": "",
        }
        Executor().Do(inputs, {"drift": [drift]}, parameters)
        return found(tmp_path)

    return run


def _deliveries(images):
    return images if not images or isinstance(images[0], list) else [images]


def found(tmp_path):
    return json.loads((tmp_path / "drift" / "drift.json").read_text())


def test_images_like_the_windows_raise_no_alarm(run, images):
    result = run(images[:50], images[50:])
    assert result["findings"] == []
    assert (result["champion"], result["not_compared"]) == (1, None)
    assert result["new"] == {"images": 50, "compared": 50}
    assert len(result["statistics"]) == 8


def test_rate_of_false_alarms_on_images_is_at_most_the_stated_one(images):
    seen = appearance.statistics(png for _, png, _ in images)
    vectors = np.stack([np.asarray(Image.open(io.BytesIO(png)).resize((4, 4))).ravel() for _, png, _ in images])
    alarms = 0
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(len(images))
        new, window = order[:50], order[50:]
        kernel = two_sample.kernel_test(
            vectors[new].astype(float), vectors[window].astype(float), permutations=79, seed=seed
        )
        sides = [{name: values[side] for name, values in seen.items()} for side in (new, window)]
        alarms += kernel.p_value <= 0.025 or min(shift.p_value for shift in two_sample.shifts(*sides)) <= 0.025
    # Five were stated; eleven and a half are three standard errors above.
    assert alarms <= 11


def test_inverted_colours_are_seen_by_embeddings_and_by_statistics_and_the_run_goes_on_warned(run, images, caplog):
    with caplog.at_level(logging.WARNING, logger="simclr.progress"):
        result = run(inverted(images[:50]), images[50:])
    assert [finding["kind"] for finding in result["findings"]] == ["embeddings", "statistics"]
    assert result["embeddings"]["p_value"] == 1 / 400
    assert {shift["name"] for shift in result["statistics"] if shift["p_value"] <= 0.005} >= {"blue"}
    assert "drift: the champion sees other images" in caplog.text
    assert "blue" in caplog.text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda image: image.resize((48, 32)), "width"),
        (lambda image: image.resize((32, 20)), "height"),
        (lambda image: Image.eval(image, lambda value: value // 3), "brightness"),
        (lambda image: image.convert("L").convert("RGB"), "saturation"),
        (lambda image: Image.merge("RGB", image.split()[::-1]), "blue"),
        (lambda image: Image.blend(image, Image.new("RGB", image.size, "gray"), 0.8), "contrast"),
    ],
)
def test_change_of_appearance_is_found_by_its_statistic(run, images, change, name):
    result = run(changed(images[:50], change), images[50:])
    assert name in {shift["name"] for shift in result["statistics"] if shift["p_value"] <= result["threshold"]}
    assert name in " ".join(finding["words"] for finding in result["findings"])


@pytest.mark.parametrize("kind", ["embeddings", "statistics", "new_classes"])
def test_each_kind_may_stop_the_run_and_leaves_its_findings(run, images, tmp_path, kind):
    others = {name: "ignore" for name in ("embeddings", "statistics", "new_classes") if name != kind}
    labeled = [("z", images[0][1], "zebra")]
    with pytest.raises(DriftedError, match=r"The new images have drifted: .*drift\.embeddings=warn") as stopped:
        run(inverted(images[:50]), images[50:], labeled=labeled, **{kind: "stop"}, **others)
    words = {finding["kind"].replace(" ", "_"): finding["words"] for finding in found(tmp_path)["findings"]}
    assert set(words) == {"embeddings", "statistics", "new_classes"}
    assert words[kind] in str(stopped.value)
    assert json.loads(json.dumps(stopped.value.told)) == found(tmp_path)
    # They are on disk as well, but with the outputs of a node that failed.
    left = {path.name: path.read_bytes() for path in (tmp_path / "drift").glob("*.png")}
    assert len(left) == 3 and stopped.value.pictures == left
    assert not any(words[other] in str(stopped.value) for other in others)


def test_ignored_drift_is_written_and_not_said(run, images, caplog):
    result = run(inverted(images[:50]), images[50:], embeddings="ignore", statistics="ignore")
    assert len(result["findings"]) == 2
    assert "drift" not in caplog.text


def test_labels_unknown_to_the_champion_are_told_with_their_number(run, images):
    labeled = [("a", images[0][1], "cat"), ("b", images[1][1], "<zebra>"), ("c", images[2][1], "<zebra>")]
    result = run(images[:50], images[50:], labeled=labeled)
    assert result["new_classes"] == {"<zebra>": 2}
    assert result["findings"][0]["words"] == "labels that the champion does not know: '<zebra>' (2)"


def test_most_unusual_images_are_kept_small_and_the_odd_one_is_first(run, images, tmp_path):
    odd = io.BytesIO()
    # A flag: noise would be an even grey to a champion that sees 4x4 means, like many an image.
    flag = Image.new("RGB", (400, 300), "lime")
    flag.paste("magenta", (200, 0, 400, 300))
    flag.save(odd, "PNG")
    result = run([*images[:50], ("odd\n<one>", odd.getvalue(), "")], images[50:])
    assert result["unusual"][0]["key"].startswith("2/odd\n<one>")
    assert result["unusual"][0]["share"] == 0
    assert [shown["times"] for shown in result["unusual"]] == sorted(
        (shown["times"] for shown in result["unusual"]), reverse=True
    )
    assert len(result["unusual"]) == 3
    for shown in result["unusual"]:
        with Image.open(tmp_path / "drift" / shown["file"]) as picture:
            assert max(picture.size) <= 96


def test_delivery_that_is_all_of_the_window_is_compared_with_the_one_before(run, images):
    with pytest.raises(DriftedError):
        run(inverted(images[:50]), images[50:], retrain={"window_spans": 1}, embeddings="stop")


def test_deliveries_that_waited_and_fill_the_window_are_compared_with_what_was_trained_on(run, images, tmp_path):
    dark = changed(images[:50], lambda image: Image.eval(image, lambda value: value // 3))
    result = run([dark[:25], dark[25:]], [inverted(images[:20]), images[50:]], retrain={"window_spans": 1})
    # The older of the two deliveries that were trained on is in no window of one span.
    assert (result["new"]["images"], result["window"]["images"]) == (50, 70)
    assert "brightness" in " ".join(finding["words"] for finding in result["findings"])


def test_first_run_has_nothing_to_compare_with_and_says_so(run, images, caplog):
    result = run(images[:50], [], embeddings="stop", statistics="stop")
    words = "no images were compared: nothing has been trained on before that is still there"
    assert result["findings"] == [{"kind": "not compared", "words": words, "policy": "warn"}]
    assert f"drift: {words}" in caplog.text


def test_images_of_the_test_split_are_on_neither_side(run, images):
    result = run(images[:50], images[50:], test=[*images[:3], *images[50:54]])
    assert (result["new"]["images"], result["window"]["images"]) == (47, 66)


def test_without_a_champion_the_statistics_are_compared_and_it_is_said(run, images, tmp_path):
    result = run(inverted(images[:50]), images[50:], folder=str(tmp_path / "nothing"))
    assert (result["embeddings"], result["not_compared"]) == (None, "there is no champion yet")
    assert [(finding["kind"], finding["policy"]) for finding in result["findings"]] == [
        ("not compared", "warn"),
        ("statistics", "warn"),
    ]
    assert len(result["unusual"]) == 3
    assert not (tmp_path / "nothing").exists()


def test_champion_that_cannot_be_loaded_is_said(run, images, tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"none")
    result = run(images[:50], images[50:], folder=str(tmp_path / "broken"))
    [finding] = result["findings"]
    assert "images were not compared by embeddings: the champion, version 1, cannot embed" in finding["words"]


@pytest.mark.parametrize(("new", "old", "side"), [(9, 60, "the new images"), (60, 9, "the window before them")])
def test_too_few_images_are_not_compared_and_it_is_said(run, images, new, old, side):
    result = run(images[:new], images[60 : 60 + old])
    assert result["not_compared"] == f"of {side} there are 9; fewer than 10 say nothing"
    assert (result["statistics"], result["unusual"]) == ([], [])
    assert [finding["kind"] for finding in result["findings"]] == ["not compared"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"false_alarm_rate": 0.001}, "needs 1999 or more"),
        ({"embeddings": "shout"}, "embeddings"),
        ({"sample": 5}, "sample"),
    ],
)
def test_impossible_setting_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DriftConfig(**{"permutations": 1998, **settings})


def test_statistics_of_known_images():
    def png(colour, size=(10, 20)):
        written = io.BytesIO()
        Image.new("RGB", size, colour).save(written, "PNG")
        return written.getvalue()

    seen = appearance.statistics([png((255, 0, 0)), png((0, 0, 0)), png((51, 51, 51), (300, 200))])
    assert seen["width"].tolist() == [10, 10, 300] and seen["height"].tolist() == [20, 20, 200]
    assert seen["brightness"] == pytest.approx([0.299, 0, 0.2])
    assert seen["saturation"] == pytest.approx([1, 0, 0])
    assert seen["red"] == pytest.approx([1, 1 / 3, 1 / 3])
    assert seen["contrast"] == pytest.approx([0, 0, 0], abs=1e-9)
