"""Ten thousand classes, as a folder for each image would make them: whatever lists classes stays short and quick."""

import collections
import io
import json
import tarfile
import time

import pytest
import tensorflow as tf
from PIL import Image

from components.drift import findings
from components.drift.settings import DriftConfig
from components.image_example_gen import archives, dedupe, examples, summary
from components.label_fraction_split.inventory import ClassKeys, ordered_classes
from components.push import decision
from components.push.comparison import Rule
from trainer import folders
from trainer.label_fractions import select

CLASSES = tuple(f"class {number:05}" for number in range(10_000))
_MOST_CPU_S = 20  # what compares all with all takes much longer


@pytest.fixture
def png():
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _quick():
    started = time.process_time()
    yield
    assert time.process_time() - started < _MOST_CPU_S


def test_each_class_has_an_image_in_every_fraction():
    inventory = [
        ClassKeys("train", name, index, [f"{name}/{n}" for n in range(3)]) for index, name in enumerate(CLASSES)
    ]
    assert ordered_classes(inventory) == list(CLASSES)
    chosen = select({entry.label: entry.keys for entry in inventory}, 0.01, seed=1)
    assert {len(keys) for keys in chosen.values()} == {1} and len(chosen) == len(CLASSES)


def test_archive_gives_each_image_its_class(png):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, name in enumerate(CLASSES):
            for member, content in ((f"{number}.png", png), (f"{number}.cls", name.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    open_file = lambda: io.BytesIO(buffer.getvalue())  # noqa: E731 - the reader opens it twice
    items = archives.read_tar(open_file, "a.tar", max_bytes=1000, want_classes=True)
    assert [item.label for item in items] == list(CLASSES)


def test_folders_are_the_trainers_classes(monkeypatch):
    """Without the folders themselves, which take a disk longer than all else."""
    monkeypatch.setattr(folders, "_image_names", lambda _path: [f"{name}/a.png" for name in reversed(CLASSES)])
    monkeypatch.setattr(folders, "_measured", lambda _path: ((1, 1), 0))
    files = folders.open_folder("images")
    assert files.classes == CLASSES and files.labels == tuple(range(len(CLASSES)))


def test_few_are_named_where_an_index_has_several():
    inventory = [ClassKeys("train", name, 0, [name]) for name in CLASSES]
    with pytest.raises(ValueError, match=r"received 0 for 'class 00000', .* and 9995 more\.") as refused:
        ordered_classes(inventory)
    assert len(str(refused.value)) < 400


class _Knowing(tf.Module):
    """Answers with the class that the "encoded image" names, save for the first so many classes."""

    def __init__(self, mistakes: int) -> None:
        super().__init__()
        self.mistakes = tf.Variable(mistakes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes):
        index = tf.strings.to_number(image_bytes, tf.int32)
        answer = tf.where(index < self.mistakes, index + 1, index)
        return {"probabilities": tf.one_hot(answer, len(CLASSES))}


def _model_in(folder, *, mistakes: int, classes=CLASSES) -> str:
    module = _Knowing(mistakes)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "classes.json").write_text(json.dumps(classes))
    return str(folder)


def test_push_compares_and_tells_other_classes_in_few_words(tmp_path):
    (tmp_path / "test").mkdir()
    with (tmp_path / "test" / "data_tfrecord-00000-of-00001").open("wb") as file:
        for index, name in enumerate(CLASSES):
            examples.write_record(
                file, examples.serialise({"image_bytes": b"%d" % index, "key": name.encode(), "label": name.encode()})
            )
    renamed = [f"other {name}" for name in CLASSES]
    models = [
        _model_in(tmp_path / "champion", mistakes=500),
        _model_in(tmp_path / "worse", mistakes=2000),
        _model_in(tmp_path / "renamed", mistakes=0, classes=renamed),
    ]
    decisions = [
        decision.push_model(
            model,
            blessed=True,
            test_split_uri=str(tmp_path / "test"),
            destination=str(tmp_path / "pushed"),
            rule=Rule(max_regression=0.0, resamples=100),
        )
        for model in models
    ]
    assert [found.blessed for found in decisions] == [True, False, False]
    assert [found.candidate_top1 for found in decisions] == [0.95, 0.8, 0.0]
    assert "only the new model knows 'other class 00000', " in decisions[-1].reason
    assert decisions[-1].reason.count("and 9995 more") == 2
    lines = (tmp_path / "pushed" / "HISTORY.jsonl").read_text().splitlines()
    assert len(lines) == 3 and max(map(len, lines)) < 2000


def test_few_are_named_where_copies_of_an_image_have_a_label_each():
    """Else each of ten thousand rejects would hold ten thousand names."""
    copies = [
        dedupe.Record("ab", "s", True, "train", False, name, name, name, None, b"", 1, 1, "png", "png")
        for name in CLASSES
    ]
    accounts = collections.defaultdict(summary.Account)
    rejects = dedupe.settle(copies, dedupe.Contested(), frozenset(), accounts).rejects
    assert len(rejects) == len(CLASSES) and sum(len(reject.detail) for _, reject in rejects) < 200 * len(CLASSES)


def test_drift_names_a_few_of_the_new_ones():
    [found] = findings.find(DriftConfig(), None, [], dict.fromkeys(CLASSES, 1))
    assert len(found.words) < 300 and "and 9995 more" in found.words
