"""Sets of images that are larger than the memory they may take."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.image_example_gen import examples

_ROOT = Path(__file__).resolve().parents[2]
_STACK_BYTES = 2**21
_SIDE_PX = 1000  # 3 MB, since noise does not compress


def _write_images(folder: Path, megabytes: int, *, side_px: int = _SIDE_PX, first: int = 0) -> int:
    """Distinct images of noise, from a number on, with so many bytes in all; returns how many there are."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    number, size = first, 0
    while size < megabytes << 20:
        noise[0, 0] = (number >> 16, number >> 8 & 255, number & 255)
        path = folder / f"{number:05}.png"
        Image.fromarray(noise).save(path, compress_level=0)
        number, size = number + 1, size + path.stat().st_size
    return number - first


def _run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
        cwd=_ROOT,
        env={
            "PYTHONPATH": str(_ROOT),
            "MALLOC_ARENA_MAX": "2",
            "TF_USE_LEGACY_KERAS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_small_stacks,
    )


def _small_stacks() -> None:
    """The limit counts the whole stack of a thread, of which next to nothing is used."""
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, resource.getrlimit(resource.RLIMIT_STACK)[1]))


@pytest.mark.parametrize(
    ("megabytes", "shard_megabytes", "limit_megabytes"),
    [(160, 16, 110), pytest.param(4000, 256, 900, marks=pytest.mark.chaos)],
)
def test_deliveries_larger_than_the_memory_become_spans_and_a_window_in_it(
    tmp_path, megabytes, shard_megabytes, limit_megabytes
):
    first = _write_images(tmp_path / "deliveries" / "1", megabytes // 2)
    second = _write_images(tmp_path / "deliveries" / "2", megabytes // 2, first=first)
    image_bytes = (tmp_path / "deliveries" / "1" / "00000.png").stat().st_size
    done = _run("large_set.py", tmp_path, shard_megabytes, limit_megabytes)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["read"] == told["kept"] == [first, second]
    assert told["shards"] == [-(-images * image_bytes // (shard_megabytes << 20)) for images in (first, second)]
    assert told["in_window"] == told["stored"] == first + second
    # They differ in a pixel.
    assert told["near_duplicates"] == second
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()


def test_image_that_there_is_no_memory_for_fails_the_run_and_is_no_reject(tmp_path):
    _write_images(tmp_path / "deliveries" / "1", 12)
    done = _run("large_set.py", tmp_path, 16, 12)
    assert done.returncode != 0 and "there is no memory for one of 50000000 pixels" in done.stderr, done.stderr[
        -2000:
    ]
    assert not list((tmp_path / "store" / "spans").rglob("SPAN.json"))


def _write_records(folder: Path, *, megabytes: int, files: int) -> int:
    """Distinct images of noise as Transform writes them, with so many bytes in all; returns how many there are."""
    count = _write_images(folder / "images", megabytes, side_px=_SIDE_PX // 2)
    for number in range(files):
        with (folder / f"{number:02}.tfrecord").open("wb") as file:
            for path in sorted((folder / "images").iterdir())[number::files]:
                examples.write_record(
                    file, examples.serialise({"image": path.read_bytes(), "key": path.name.encode()})
                )
    shutil.rmtree(folder / "images")
    return count


@pytest.mark.chaos
def test_pretraining_on_a_set_larger_than_the_memory_ends_in_it(tmp_path):
    """2 GB are trained on by a process that may hold 500 MB more than a training on a tenth of them has taken."""
    count = _write_records(tmp_path, megabytes=2000, files=10)
    done = _run("large_training.py", tmp_path, 60, 500)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["images"], told["steps"]) == (count, count // 8)
    for path in tmp_path.glob("*.tfrecord"):
        path.unlink()
