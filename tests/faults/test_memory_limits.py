"""Sets of images that are larger than the memory they may take."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_ROOT = Path(__file__).resolve().parents[2]
_SIDE_PX = 1000  # 3 MB, since noise does not compress


def _write_images(folder: Path, megabytes: int) -> int:
    """Distinct images of noise with so many bytes in all; returns how many there are."""
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    number, size = 0, 0
    while size < megabytes << 20:
        noise[0, 0] = (number >> 16, number >> 8 & 255, number & 255)
        path = folder / f"{number:05}.png"
        Image.fromarray(noise).save(path, compress_level=0)
        number, size = number + 1, size + path.stat().st_size
    return number


def _ingest(folder: Path, *, shard_megabytes: int, limit_megabytes: int) -> subprocess.CompletedProcess:
    command = [sys.executable, str(Path(__file__).with_name("large_set.py")), str(folder)]
    return subprocess.run(
        [*command, str(shard_megabytes), str(limit_megabytes)],
        cwd=_ROOT,
        env={"PYTHONPATH": str(_ROOT), "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("megabytes", "shard_megabytes", "limit_megabytes"),
    [(160, 16, 110), pytest.param(4000, 256, 900, marks=pytest.mark.chaos)],
)
def test_set_larger_than_the_memory_is_ingested_in_it(tmp_path, megabytes, shard_megabytes, limit_megabytes):
    images = _write_images(tmp_path / "images", megabytes)
    done = _ingest(tmp_path, shard_megabytes=shard_megabytes, limit_megabytes=limit_megabytes)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["read"] == told["kept"] == told["stored"] == images and told["rejected"] == 0
    image_bytes = (tmp_path / "images" / "00000.png").stat().st_size
    assert told["shards"] == -(-images * image_bytes // (shard_megabytes << 20))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()
