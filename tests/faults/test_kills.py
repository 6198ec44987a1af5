"""SIGKILL at any moment of any node, again and again, and the run that follows ends as if nothing had been."""

import collections
import functools
import random
import shutil
from pathlib import Path

import lives
import pytest
import soundness
import whole_runs
from lives import Moment

from components.image_example_gen.examples import Example, read_records
from components.span_ingest.store import SpanStore

# Each node dies so often in one folder before the run there is let go on to its end.
_DEATHS_OF_A_NODE = 3
# SpanTrained's first death may come after its note, and then there is nothing left to do.
_DEATHS_OF_A_SMALL_NODE = (2, 3, 1, 1)


class Killed:
    """A run that is killed and started again in one folder."""

    def __init__(self, nursery, work, below: Path, output: Path) -> None:
        self._nursery, self._work, self._below, self._output = nursery, work, below, output
        self.deaths = 0

    def die(self, moment: Moment) -> None:
        """Lives until the moment, then asks the folder whether it is sound."""
        lived = self._nursery.raise_one(self._work, self._below, moment)
        assert lived.code is None, f"{moment}: ended with {lived.code} before; {self._nursery.last_words()}"
        self.deaths += 1
        soundness.check_metadata(self._output)
        soundness.check_accounts(self._output)

    def live(self) -> None:
        """Lives to the end."""
        lived = self._nursery.raise_one(self._work, self._below)
        assert lived.code == 0, self._nursery.last_words()
        soundness.check_metadata(self._output)


def _kept(store: SpanStore) -> dict[str, int]:
    """How often each content is in the spans."""
    found = collections.Counter()
    for span in store.spans():
        for shard in span.shards:
            with open(store.uri(f"{span.folder}/{shard.name}"), "rb") as file:
                for record in read_records(file, max_record_bytes=2**30):
                    found[Example.FromString(record).features.feature["sha256"].bytes_list.value[0].decode()] += 1
    return dict(found)


def _small(folder: Path, source: Path, labeled: Path) -> functools.partial:
    settings = {
        "output": folder / "run",
        "data.unlabeled": source,
        "data.labeled": labeled,
        "data.holdout_fraction": 0.4,
        "retrain.store": folder / "store",
        "retrain.settle_s": 0,
    }
    return functools.partial(
        whole_runs.run_small, ["retrain", *(f"--set={name}={value}" for name, value in settings.items())]
    )


def test_killed_in_any_node_a_run_over_a_growing_source_loses_nothing(
    nursery, tmp_path, class_folders, sample_pngs, chaos_seed
):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(16, 24):
        (source / f"{number}.png").write_bytes(sample_pngs["cat"][number])
    undisturbed = tmp_path / "undisturbed"
    lived = nursery.raise_one(_small(undisturbed, source, class_folders), undisturbed)
    assert lived.code == 0, nursery.last_words()
    folder = tmp_path / "killed"
    killed = Killed(nursery, _small(folder, source, class_folders), folder, folder / "run")
    chance = random.Random(chaos_seed)
    nodes = [stage for stage in lived.stages if stage.node not in (lives.BEFORE, lives.AFTER)]
    assert [stage.node for stage in nodes] == ["ImageExampleGen-labeled", "SpanIngest", "Count", "SpanTrained"]
    for stage, deaths in zip(nodes, _DEATHS_OF_A_SMALL_NODE, strict=True):
        for _ in range(deaths):
            killed.die(Moment(stage.node, change=chance.randint(1, stage.changes)))
    killed.live()
    assert soundness.check_accounts(folder / "run") >= 2
    stores = [SpanStore(str(where / "store")) for where in (undisturbed, folder)]
    assert set(_kept(stores[0]).values()) == {1} and _kept(stores[1]) == _kept(stores[0])
    assert [store.trained() for store in stores] == [1, 1]
    ours, theirs = (soundness.final_artifacts(where / "run") for where in (folder, undisturbed))
    assert ours == theirs and len(ours) > 10
    # A run after the last one has nothing to do.
    assert nursery.raise_one(_small(folder, source, class_folders), folder).code == 0
    assert "no new images: nothing to do" in nursery.last_words()


def _first_run(nursery, folder: Path, unlabeled: Path, labeled: Path) -> functools.partial:
    """The whole pipeline on one set of images, into a folder without anything."""
    folder.mkdir()
    arguments = ["run", "--config", str(whole_runs.TINY), "--output", str(folder / "run")]
    return functools.partial(whole_runs.run, [*arguments, "--unlabeled", str(unlabeled), "--labeled", str(labeled)])


def _second_cycle(nursery, folder: Path, unlabeled: Path, labeled: Path) -> functools.partial:
    """A delivery to a source that has been trained on once, which drift is looked for in; a student is pushed."""
    source = folder.with_name("source")
    source.mkdir()
    settings = {
        "output": folder / "run",
        "data.unlabeled": source,
        "data.labeled": labeled,
        "retrain.store": folder / "store",
        "retrain.settle_s": 0,
        "fractions": "[1]",
        "drift.sample": 20,
        "distill.enabled": "true",
        "distill.student.stage_blocks": "[1]",
        "distill.student.width": 4,
        "distill.batch_size": 16,
        "distill.epochs": 1,
        "gate.max_regression": 1,
        "gate.judged_by": "estimate",
    }
    arguments = [
        "retrain",
        "--config",
        str(whole_runs.TINY),
        *(f"--set={n}={value}" for n, value in settings.items()),
    ]
    work = functools.partial(whole_runs.run, arguments)
    images = sorted(unlabeled.iterdir())
    for path in images[::2]:
        shutil.copy(path, source)
    lived = nursery.raise_one(work, folder)
    assert lived.code == 0, nursery.last_words()
    for path in images[1::2]:
        shutil.copy(path, source)
    return work


def _moments(stages: list[lives.Stage], chance: random.Random, *, most: int) -> list[Moment]:
    """In the order of the stages, and of all of them as many if there are fewer than they have."""
    nodes = [stage.node for stage in stages]
    # What SpanTrained notes leaves the next run nothing to die in.
    end = nodes.index("SpanTrained") if "SpanTrained" in nodes else len(nodes)
    found = lives.moments(stages[:end], _DEATHS_OF_A_NODE, chance)
    if stages[end:]:
        found.append(chance.choice(lives.moments(stages[end:], 1, chance)))
    return [found[number] for number in sorted(chance.sample(range(len(found)), min(most, len(found))))]


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("prepare", "nodes", "version"),
    [(_first_run, {"ImageExampleGen-unlabeled"}, 1), (_second_cycle, {"SpanIngest", "Drift", "Distill-100pct"}, 2)],
)
def test_killed_at_any_moment_of_any_node_the_run_ends_in_the_same_artifacts(
    nursery, tmp_path, flat_folder, class_folders, kills, chaos_seed, prepare, nodes, version
):
    folder, before = tmp_path / "folder", tmp_path / "before"
    output, store = folder / "run", SpanStore(str(folder / "store"))
    work = prepare(nursery, folder, flat_folder, class_folders)
    shutil.copytree(folder, before)
    lived = nursery.raise_one(work, folder)
    assert lived.code == 0, nursery.last_words()
    assert nodes <= {stage.node for stage in lived.stages}
    expected, expected_pushed = soundness.final_artifacts(output), soundness.pushed(output)
    expected_images, trained = _kept(store), store.trained()
    assert len(expected) > 80 and {"CHAMPION", f"{version}/saved_model.pb"} <= set(expected_pushed)
    chance, deaths, rounds = random.Random(chaos_seed), 0, 0
    while deaths < kills // 2:  # the other half are the other graph's
        rounds += 1
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        killed = Killed(nursery, work, folder, output)
        with soundness.Watch(output / "pushed") as watch:
            for moment in _moments(lived.stages, chance, most=kills // 2 - deaths):
                killed.die(moment)
            killed.live()
        deaths += killed.deaths
        assert watch.faults == [] and watch.looks > 1000
        differing = {name for name, _ in soundness.final_artifacts(output).items() ^ expected.items()}
        assert differing == set(), f"round {rounds}, seed {chaos_seed}"
        assert soundness.pushed(output) == expected_pushed
        assert (_kept(store), store.trained()) == (expected_images, trained)
        assert soundness.check_accounts(output) >= 2
