"""Disks that are full, may not be written, or may not be read: nothing half is left, and the next run goes on."""

import contextlib
import functools
import io
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import killed_training
import numpy as np
import pytest
import soundness
import span_fixtures
import tensorflow as tf
import whole_runs
from click.testing import CliRunner
from ml_metadata import errors
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from PIL import Image
from tfx.orchestration import metadata

from components.image_example_gen import sources
from components.label_fraction_split import choices
from components.push import publishing
from components.span_ingest.store import Counts, SpanStore
from pipeline import cli, preflight
from pipeline.config import load_config
from pipeline.runners.run_folder import check_metadata

_NOBODY = 65534
_BALLAST = "ballast"


@pytest.fixture
def small_disk(tmp_path):
    """A quarter of a megabyte."""
    with _disk(tmp_path / "disk", "size=256k") as path:
        yield path


@pytest.fixture
def disk_for_tables(tmp_path):
    """A megabyte: the tables of the metadata take a third of it."""
    with _disk(tmp_path / "disk", "size=1m") as path:
        yield path


@pytest.fixture
def read_only(tmp_path):
    with _disk(tmp_path / "disk", "size=256k,ro") as path:
        yield path


@contextlib.contextmanager
def _disk(path, options):
    """A disk in memory, mounted while it is needed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount what this test needs")
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(disk: Path, *, but: int = 4096) -> None:
    """Leaves so many bytes free."""
    (disk / _BALLAST).write_bytes(bytes(shutil.disk_usage(disk).free - but))


def _png(seed: int, side_px: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_span_that_does_not_fit_is_not_there_and_is_made_when_it_fits(small_disk, tmp_path):
    source, store = tmp_path / "source", SpanStore(str(small_disk / "store"))
    span_fixtures.write_files(source, {f"{n}.png": _png(n, 16) for n in range(4)})
    span_fixtures.run(store, source)
    before = span_fixtures.contents(store)
    span_fixtures.write_files(source, {f"large{n}.png": _png(n, 64) for n in range(12)})
    ballast = small_disk / _BALLAST
    ballast.write_bytes(bytes(100_000))
    with pytest.raises(OSError, match="No space left on device"):
        span_fixtures.run(store, source)
    assert span_fixtures.contents(store) == before
    assert not [name for name in span_fixtures.files_of(store) if name.startswith("spans/000002")]
    ballast.unlink()
    source_files = sorted(source.iterdir())
    for path in source_files[-8:]:
        path.unlink()
    made = span_fixtures.run(store, source).made
    assert made.counts == Counts(4, 4, 0, 0) and len(span_fixtures.contents(store)) == 2


def test_choice_of_labels_that_does_not_fit_is_not_there_and_the_next_run_makes_it(small_disk, tmp_path):
    few, many = ({name: [f"{name}-{n:04}" for n in range(count)] for name in ("cat", "dog")} for count in (9, 2_000))
    full, roomy = str(small_disk / "store"), str(tmp_path / "store")
    expected = [choices.settle(roomy, keys, [0.1], seed=1) for keys in (few, many)]
    assert choices.settle(full, few, [0.1], seed=1) == expected[0]
    _fill(small_disk)
    with pytest.raises(OSError, match="No space left on device"):
        choices.settle(full, many, [0.1], seed=1)
    assert [path.name for path in small_disk.glob("store/labels/*/*")] == ["000001.json"]
    (small_disk / _BALLAST).unlink()
    assert choices.settle(full, many, [0.1], seed=1) == expected[1]


def test_metadata_on_a_full_disk_stays_whole_and_goes_on(disk_for_tables):
    path = disk_for_tables / "metadata.sqlite"
    connection = metadata.sqlite_metadata_connection_config(str(path))
    store = MetadataStore(connection)
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Model"))

    def put(number: int) -> None:
        store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind, uri=f"{number}" * 100)])

    put(1)
    _fill(disk_for_tables)
    with pytest.raises(errors.StatusError, match="full"):
        for number in range(2, 1_000):
            put(number)
    (disk_for_tables / _BALLAST).unlink()
    check_metadata(path)
    # As the next run does: this connection never closes the transaction that failed.
    store = MetadataStore(connection)
    put(number)
    assert [found.id for found in store.get_artifacts()] == list(range(1, number + 1))


@pytest.mark.chaos
@pytest.mark.parametrize("free_bytes", [4_096, 65_536])
def test_disk_that_is_full_when_transform_begins_ends_the_run_in_words_and_the_next_goes_on(
    nursery, tmp_path, flat_folder, class_folders, free_bytes
):
    node = "Transform-labeled"
    arguments = ["run", "--config", str(whole_runs.TINY), "--to", node]
    arguments += ["--unlabeled", str(flat_folder), "--labeled", str(class_folders), "--output"]
    roomy = tmp_path / "roomy"
    assert nursery.raise_one(functools.partial(whole_runs.run, [*arguments, str(roomy)]), roomy).code == 0
    with _disk(tmp_path / "disk", "size=64m") as disk:
        again = [*arguments, str(disk / "run")]
        full = functools.partial(whole_runs.run_into_a_full_disk, again, node, disk / _BALLAST, free_bytes)
        assert nursery.raise_one(full, disk).code == 1
        assert "No space left on device" in nursery.last_words() or "disk is full" in nursery.last_words()
        (disk / _BALLAST).unlink()
        soundness.check_metadata(disk / "run")
        assert nursery.raise_one(functools.partial(whole_runs.run, again), disk).code == 0
        assert soundness.final_artifacts(disk / "run") == soundness.final_artifacts(roomy)


def test_training_on_a_full_disk_goes_on_from_its_last_whole_checkpoint_bit_for_bit(small_disk):
    expected = killed_training.run()

    def fill(number: int) -> None:
        if number == 9:
            _fill(small_disk)

    with pytest.raises((tf.errors.OpError, OSError)) as full:
        killed_training.run(str(small_disk / "checkpoints"), every_steps=2, batch_hook=fill)
    assert "space" in str(full.value).lower() or "exhausted" in str(full.value).lower()
    (small_disk / _BALLAST).unlink()
    batches = []
    resumed = killed_training.run(str(small_disk / "checkpoints"), every_steps=2, batch_hook=batches.append)
    assert batches[0] == 8
    killed_training.assert_same_training(resumed, expected)


def test_version_that_does_not_fit_is_never_seen_and_the_next_push_clears_what_it_left(small_disk, tmp_path):
    model, pushed = tmp_path / "model", small_disk / "pushed"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(bytes(100_000))
    (model / "variables" / "variables.data").write_bytes(bytes(200_000))
    pushed.mkdir()
    additions = publishing.Additions(texts={}, copies={})
    with pytest.raises(OSError, match="No space left on device"):
        publishing.publish_by_rename(str(model), pushed / "1", additions)
    assert not (pushed / "1").exists()
    publishing.remove_leftovers(pushed)
    (model / "variables" / "variables.data").write_bytes(bytes(50_000))
    publishing.publish_by_rename(str(model), pushed / "1", additions)
    assert [path.name for path in pushed.iterdir()] == ["1"]
    assert (pushed / "1" / "variables" / "variables.data").stat().st_size == 50_000


@pytest.mark.parametrize("command", ["run", "rehearse"])
def test_output_that_may_not_be_written_is_refused_before_anything_is_loaded(read_only, command):
    done = CliRunner().invoke(cli.main, [command, "--output", str(read_only / "run")])
    assert done.exit_code == 2
    assert done.output == f"configuration: output = '{read_only}/run': cannot be written: Read-only file system\n"


def test_store_that_may_not_be_written_fails_and_says_so(read_only, tmp_path):
    span_fixtures.write_files(tmp_path / "source", {"a.png": _png(1, 8)})
    with pytest.raises(OSError, match="Read-only file system"):
        span_fixtures.run(SpanStore(str(read_only / "store")), tmp_path / "source")


@contextlib.contextmanager
def _nobody():
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared():
    """A folder that anybody may enter, as pytest's are not."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who may not read its files")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_file_that_may_not_be_read_is_a_reject_and_the_others_are_read(shared):
    for name in ("may.png", "may_not.png"):
        (shared / name).write_bytes(_png(1, 8))
    (shared / "may_not.png").chmod(stat.S_IRUSR)
    items = _read_by_nobody(shared)
    assert [getattr(item, "reason", "read") for item in items] == ["read", "unreadable"]
    assert "Permission denied" in items[1].detail


# May not be listed; may be listed, and not entered.
@pytest.fixture(params=[0o700, 0o744], ids=["listed", "entered"])
def with_closed_folder(shared, request):
    span_fixtures.write_files(shared, {"may.png": _png(1, 8), "closed/1.png": _png(2, 8), "closed/2.png": _png(3, 8)})
    (shared / "closed").chmod(request.param)
    return shared


def test_folder_that_may_not_be_listed_or_entered_is_a_reject_and_the_others_are_read(with_closed_folder):
    """Of one that may not be listed nobody knows how many images it holds."""
    items = _read_by_nobody(with_closed_folder)
    assert {item.uri.removeprefix(f"{with_closed_folder}/"): getattr(item, "reason", "read") for item in items} in (
        {"may.png": "read", "closed/": "unreadable"},
        {"may.png": "read", "closed/1.png": "unreadable", "closed/2.png": "unreadable"},
    )
    assert all("Permission denied" in item.detail for item in items if hasattr(item, "reason"))
    config = load_config(
        None, [f"data.{name}={with_closed_folder}" for name in ("unlabeled", "labeled")] + ["pretrain.batch_size=2"]
    )
    with _nobody():
        closed = preflight.inspect(config)
    assert preflight.inspect(config)["labeled"].fingerprint != closed["labeled"].fingerprint


@pytest.mark.parametrize("pattern", ["", "/*/{SPAN}.png"])
def test_folder_that_was_closed_to_one_run_is_ingested_by_the_next_that_may_enter_it(with_closed_folder, pattern):
    source, place = f"{with_closed_folder}{pattern}", with_closed_folder.parent / f"{with_closed_folder.name}-store"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    store = SpanStore(str(place))
    try:
        with _nobody():
            first = span_fixtures.run(store, source).made
            assert first.counts.rejected > 0 and first.counts.kept == (not pattern)
            assert span_fixtures.run(store, source).delivery.is_empty
        (with_closed_folder / "closed").chmod(0o755)
        second = span_fixtures.run(store, source)
        assert second.made.counts == Counts(2, 2, 0, 0) and second.delivery.vanished == ()
        assert span_fixtures.run(store, source).notes == ()
    finally:
        shutil.rmtree(place)


def test_folder_that_is_closed_itself_is_no_source(shared):
    (shared / "closed").mkdir(mode=0o700)
    (shared / "closed" / "inner").mkdir()
    for path in (shared / "closed", shared / "closed" / "inner"):
        with _nobody(), pytest.raises(ValueError, match=r"cannot be listed|does not exist"):
            sources.list_files(str(path))


def _read_by_nobody(folder: Path) -> list:
    source = sources.Source("unlabeled", str(folder), "train", labeled=False)
    with _nobody():
        _, work = sources.plan(source)
        return [item for piece in work for item in sources.read(piece, max_bytes=10_000)]
