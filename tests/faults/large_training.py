"""Pretraining on more images than memory, in a process that may not have more: argv is a folder, and megabytes twice.

They are what the trainer may keep of the images to draw from, and what the process may hold beyond its imports and a
first training, which compiles.
"""

import json
import sys
from pathlib import Path

import memory_limit

from trainer import sources, stages
from trainer.config import (
    AugmentConfig,
    CropConfig,
    DiagnosticsConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
)

CONFIG = PretrainConfig(
    encoder=EncoderConfig(stage_blocks=(1,), width=4),
    head=HeadConfig(output_dim=8),
    augment=AugmentConfig(crop=CropConfig(size_px=8), jitter_strength=0.0, grayscale_probability=0.0),
    optimizer=OptimizerConfig(name="adamw", learning_rate=0.01),
    batch_size=8,
    epochs=1,
    diagnostics=DiagnosticsConfig(every_steps=0),
)


def main(folder: str, kept_megabytes: str, limit_megabytes: str) -> None:
    sources._MEMORY_BYTES = int(kept_megabytes) << 20
    paths = sorted(Path(folder).glob("*.tfrecord"))
    stages.pretrain(CONFIG, sources.open_examples([str(paths[0])]), seed=1)
    memory_limit.limit_memory(int(limit_megabytes))
    before = memory_limit.held_bytes()
    files = sources.open_examples([str(path) for path in paths])
    history = stages.pretrain(CONFIG, files, seed=1).history
    more_mb = (memory_limit.held_bytes() - before) >> 20
    sys.stdout.write(
        json.dumps({"images": files.count, "steps": history.rows[-1]["step"], "more_mb": more_mb}) + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
