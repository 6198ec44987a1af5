"""Trainings, models and pushes on gs://."""

import json
import os
from typing import Any

_IDENTITY = {"seed": 1}
_TRAINING_TIMEOUT_S = 300
_WRITERS = 8


def kill(root: str) -> dict[str, Any]:
    """Trains with checkpoints in `root`/checkpoints after each step; the process is killed before the seventh."""
    import multiprocessing
    import signal

    import killed_training
    import tensorflow as tf

    def die_at_six(number: int) -> None:
        if number == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    # Forked after TensorFlow's import, which takes seconds, and before it runs anything, which no fork survives.
    training = multiprocessing.get_context("fork").Process(
        target=killed_training.run,
        args=[f"{root}/checkpoints"],
        kwargs={"batch_hook": die_at_six, "every_steps": 1, "identity": _IDENTITY},
    )
    training.start()
    training.join(_TRAINING_TIMEOUT_S)
    training.terminate()
    return {"exit_code": training.exitcode, "left": sorted(tf.io.gfile.listdir(f"{root}/checkpoints"))}


def resume(root: str) -> dict[str, int]:
    """Goes on with that training, and compares it with one that was never killed."""
    import killed_training

    batches: list[int] = []
    resumed = killed_training.run(
        f"{root}/checkpoints", batch_hook=batches.append, identity=_IDENTITY, log_dir=f"{root}/logs"
    )
    killed_training.assert_same_training(resumed, killed_training.run())
    return {"first_batch": batches[0], "last_step": resumed[1].rows[-1]["step"]}


def train(root: str) -> dict[str, int]:
    """A training that nobody kills, with checkpoints every fourth step, is as one without any."""
    import killed_training

    saved = killed_training.run(f"{root}/checkpoints", identity=_IDENTITY)
    killed_training.assert_same_training(saved, killed_training.run())
    again = killed_training.run(f"{root}/checkpoints", identity=_IDENTITY)
    killed_training.assert_same_training(again, saved)
    return {"last_step": again[1].rows[-1]["step"]}


def export_and_load(root: str) -> dict[str, Any]:
    """Exports a classifier to `root`/model, and compares what is read back with the network itself."""
    import numpy as np
    import tensorflow as tf

    from trainer import export, heads, resnet
    from trainer.config import EncoderConfig

    config, classes = EncoderConfig(stage_blocks=(1,), width=4), ["cat", "frog", "ship"]
    model = heads.classifier_on(resnet.build_encoder(config, size_px=8, seed=3), n_classes=len(classes))
    for variable in model.weights:
        variable.assign_add(tf.random.stateless_uniform(variable.shape, [0, 1], 0.01, 0.5))
    served = export.ServedClassifier(model, export.folder_preprocessing(size_px=8), classes=classes)
    path = f"{root}/model"
    export.save_served(served, path)
    export.save_classes(classes, path)
    export.save_classifier(model, path, encoder=config, classes=classes)

    images = tf.stack([tf.io.encode_png(tf.fill([6, 5, 3], tf.constant(shade, tf.uint8))) for shade in (40, 200)])
    expected = served.classify(images)["probabilities"]
    loaded = tf.saved_model.load(path).signatures["serving_default"](image_bytes=images)
    np.testing.assert_allclose(loaded["probabilities"], expected, atol=1e-6)
    again, _, names = export.load_classifier(path)
    for variable, saved in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable, saved)
    return {"classes": list(names), "probabilities": expected.numpy().tolist()}


def push(root: str) -> dict[str, Any]:
    """Pushes a model, pushes it again, breaks off a push of a better one, and repeats that push."""
    import contextlib
    import dataclasses
    from unittest import mock

    from push_saved_models import save_model, write_test_split

    from components.push import publishing
    from components.push.comparison import Rule
    from components.push.decision import push_model
    from components.push.fingerprint import fingerprint
    from components.push.versions import VersionedDirectory

    first, better = (save_model(f"{root}/models/{mistakes}", mistakes=mistakes) for mistakes in (5, 2))
    split, directory = write_test_split(f"{root}/Split-test"), VersionedDirectory(f"{root}/pushed")
    copy, rule = publishing.fileio.copy, Rule(0.0, judged_by="estimate")

    def break_at_the_model_file(source: str, target: str) -> None:
        if source.endswith("saved_model.pb"):
            raise ConnectionError("gone")
        copy(source, target)

    def pushed(model: str) -> dict[str, Any]:
        return dataclasses.asdict(
            push_model(model, blessed=True, test_split_uri=split, destination=directory.path, rule=rule)
        )

    decisions = [pushed(first), pushed(first)]
    breaking = mock.patch.object(publishing.fileio, "copy", break_at_the_model_file)
    with breaking, contextlib.suppress(ConnectionError):
        pushed(better)
    after_the_break = {
        "versions": directory.versions(),
        "champion": directory.champion(),
        "found": directory.find(fingerprint(better)),
    }
    return {"decisions": [*decisions, pushed(better)], "after_the_break": after_the_break}


def rival_pushes(root: str) -> dict[str, Any]:
    """Pushes, rolls back and promotes, and so does another when the first is about to move the pointer or tell it."""
    import dataclasses
    import threading
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from unittest import mock

    from push_saved_models import save_model, write_test_split
    from tfx.dsl.io import fileio

    from components.push import restoring
    from components.push.comparison import Rule
    from components.push.decision import push_model
    from components.push.history import PROMOTED, ROLLED_BACK, History
    from components.push.versions import VersionedDirectory
    from components.span_ingest.folder import open_folder

    models = {mistakes: save_model(f"{root}/models/{mistakes}", mistakes=mistakes) for mistakes in (6, 5, 4, 2)}
    split, rule = write_test_split(f"{root}/Split-test"), Rule(0.0, judged_by="estimate")
    results = {}

    def push(folder: str, mistakes: int) -> dict[str, Any]:
        return dataclasses.asdict(
            push_model(models[mistakes], blessed=True, test_split_uri=split, destination=folder, rule=rule)
        )

    def between(of: type, method: str, name: str, ours: Callable[[str], Any], theirs: Callable[[str], Any]) -> None:
        """Calls `theirs` once, when `ours` is about to call the method; both have two versions to begin with."""
        folder, work, begun = f"{root}/{name}", getattr(of, method), []
        push(folder, 6)
        push(folder, 5)

        def meanwhile(*arguments: Any, **named: Any) -> Any:
            if not begun:
                begun.append(True)
                theirs(folder)
            return work(*arguments, **named)

        with mock.patch.object(of, method, meanwhile):
            done = ours(folder)
        with fileio.open(f"{folder}/HISTORY.jsonl", "r") as file:
            told = [json.loads(line) for line in file.read().splitlines()[2:]]
        results[name] = {
            "decision": done if isinstance(done, dict) else dataclasses.asdict(done),
            "champion": VersionedDirectory(folder).champion(),
            "told": [[entry["event"], entry["former"], entry["champion"]] for entry in told],
        }

    worse, better = (lambda folder: push(folder, 4)), (lambda folder: push(folder, 2))
    between(VersionedDirectory, "crown", "better-between", worse, better)
    between(VersionedDirectory, "crown", "worse-between", better, worse)
    between(History, "append", "behind-the-pointer", worse, better)
    between(History, "append", "kept-back", lambda folder: push(folder, 6), worse)
    between(VersionedDirectory, "crown", "rolled-back-between", worse, restoring.roll_back)
    between(VersionedDirectory, "crown", "promoted-between", worse, lambda folder: restoring.promote(folder, 1))
    between(History, "append", "rollback-behind-the-pointer", restoring.roll_back, worse)

    def push_before_the_line(folder: str) -> dict[str, Any]:
        open_folder(folder).replace("CHAMPION", b"1\n")
        return push(folder, 4)

    def add_the_line(folder: str) -> None:
        History(open_folder(folder)).append(ROLLED_BACK, champion=1, former=2, reason="", moved=True)

    between(History, "append", "line-between", push_before_the_line, add_the_line)
    appends = threading.Barrier(_WRITERS)

    def append(number: int) -> None:
        history = History(open_folder(f"{root}/history"))
        appends.wait()
        history.append(PROMOTED, champion=number, former=None, reason="", moved=True)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(append, range(_WRITERS)))
    entries = History(open_folder(f"{root}/history")).entries()
    return {**results, "all-appended": sorted(entry["champion"] for entry in entries) == list(range(_WRITERS))}
