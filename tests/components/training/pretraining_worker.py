"""One worker's `run_fn` of Pretrain: argv: its examples, then the folder of outputs. TF_CONFIG names the workers.

Reads nothing of TensorFlow first, as in the Trainer's own process.
"""

import sys

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common, pretrain
from trainer.config import (
    ComputeConfig,
    DiagnosticsConfig,
    EncoderConfig,
    HeadConfig,
    OptimizerConfig,
    PretrainConfig,
)

CONFIG = PretrainConfig(
    encoder=EncoderConfig(stage_blocks=(1,), width=4),
    head=HeadConfig(output_dim=8),
    batch_size=8,
    epochs=2,
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
    compute=ComputeConfig(strategy="multi_worker"),
    # To look at the network and to save it takes seconds where workers read each other's variables one by one.
    diagnostics=DiagnosticsConfig(every_steps=0),
    checkpoint_every_steps=4,
)


class AsIs(tf.Module):
    """In place of Transform's graph: the images are canonical already."""

    def __call__(self, features):
        return {"image": features["image_bytes"][:, 0]}


def main(examples: str, outputs: str) -> None:
    common.preprocessing_layer = lambda fn_args: AsIs()
    pretrain.run_fn(
        FnArgs(
            train_files=[examples],
            serving_model_dir=f"{outputs}/model",
            model_run_dir=f"{outputs}/run",
            custom_config={
                "config": CONFIG.model_dump_json(),
                "seed": 1,
                "code_version": "1",
                "checkpoint_root": f"{outputs}/checkpoints",
            },
        )
    )
    assert tf.io.gfile.exists(f"{outputs}/model"), "TFX fails a worker that finds no folder of the model"


if __name__ == "__main__":
    main(*sys.argv[1:])
