"""A rehearsed run whose pretraining hires two machines, a process each: it comes to what one machine comes to."""

import csv
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer import export

pytestmark = pytest.mark.slow

_SLOWLY = ("--set", "pretrain.optimizer.learning_rate=0.1")  # float32's roundings do not grow
# The second run meets the first one's model, and on so few images none is shown to be no worse than itself.
_WHATEVER = ("--set", "gate.max_regression=1")
_TWO = ("--set", "vertex.pretraining.machines=2", "--set", "pretrain.compute.strategy=multi_worker")


@dataclass(frozen=True)
class Pretrained:
    """A run, and what its Pretrain has made."""

    run: Any
    folder: Path

    @property
    def history(self) -> list[dict[str, str]]:
        with open(self.folder / "model_run" / "history.csv", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def encoder(self) -> list[np.ndarray]:
        return export.load_encoder(str(self.folder / "model" / "Format-Serving"))[0].get_weights()

    def files(self, key: str) -> set[str]:
        """Names of an output's files, without TensorBoard's, which hold the time."""
        found = (self.folder / key).rglob("*")
        return {
            str(path.relative_to(self.folder)) for path in found if path.is_file() and "tfevents" not in path.name
        }


@pytest.fixture(scope="module")
def one_and_two(cli, tmp_path_factory):
    """A run on one machine, then one on two in the same folder, answered from the cache up to Pretrain."""
    output, seen, pretrained = tmp_path_factory.mktemp("runs") / "rehearsed", set(), []
    for machines in ((), _TWO):
        run = cli.rehearse(output, *_SLOWLY, *_WHATEVER, *machines)
        assert run.code == 0, run.out + run.err + (output / "logs" / "Pretrain.log").read_text()[-5000:]
        [folder] = set(output.glob("buckets/*/*/*/Pretrain_*")) - seen
        seen.add(folder)
        pretrained.append(Pretrained(run, folder))
        for checkpoints in output.glob("buckets/*/*/checkpoints"):
            shutil.rmtree(checkpoints)  # another number of machines would go on from them
    return pretrained


def test_two_machines_are_a_chief_and_a_worker_and_all_before_pretraining_is_answered_from_the_cache(one_and_two):
    _, two = one_and_two
    log = (two.run.output / "logs" / "Pretrain.log").read_text()
    [told] = re.findall("^CustomJob here: (.*)$", log, flags=re.MULTILINE)
    pools = json.loads(told)["jobSpec"]["workerPoolSpecs"]
    assert [(pool["replicaCount"], pool["machineSpec"]["machineType"]) for pool in pools] == [
        ("1", "n1-highmem-8")
    ] * 2
    assert {"ImageExampleGen-unlabeled", "Transform-unlabeled"}.isdisjoint(two.run.executed)
    assert {"Pretrain", "FineTune-100pct", "LinearEval", "Push"} <= set(two.run.executed)


def test_two_machines_pretrain_to_what_one_does(one_and_two):
    one, two = one_and_two
    losses = [[float(row["loss"]) for row in pretrained.history] for pretrained in (one, two)]
    assert len(losses[0]) > 1
    # Float32 apart, which grows from step to step; half the negatives would be log 2 apart from the first one on.
    np.testing.assert_allclose(losses[1][:9], losses[0][:9], rtol=1e-3)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    for expected, found in zip(one.encoder, two.encoder, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)


def test_two_machines_leave_what_one_leaves(one_and_two):
    one, two = one_and_two
    for key in ("model", "model_run"):
        assert two.files(key) == one.files(key) != set()


def test_two_machines_end_with_the_numbers_of_one(one_and_two):
    one, two = (pretrained.run.metrics for pretrained in one_and_two)
    assert (two["ingest"], two["blessed"], one["blessed"]) == (one["ingest"], True, True)
    assert len(two["rows"]) == len(one["rows"]) > 4
    for found, expected in zip(two["rows"], one["rows"], strict=True):
        assert [found[key] for key in ("arm", "label_fraction", "n_labels", "n_test")] == [
            expected[key] for key in ("arm", "label_fraction", "n_labels", "n_test")
        ]
        # A float32's rounding may move the image that is nearest to the border.
        assert abs(found["top1"] - expected["top1"]) * expected["n_test"] < 1.5
