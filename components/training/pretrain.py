"""`run_fn` of the Trainer that pretrains: unlabeled examples → encoder."""

import hashlib
import json
import os

import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common
from trainer import checkpoints, data, distributed, export, sources, stages, views
from trainer.config import PretrainConfig

_SHOWN_VIEWS = 8


def run_fn(fn_args: FnArgs) -> None:
    """Pretrains and exports the encoder behind the Transform's graph; goes on from its checkpoint if it was killed.

    `custom_config`: `config` (JSON of PretrainConfig), `seed`, `checkpoint_root` (a directory that outlives the
    execution), `code_version`.
    """
    config = PretrainConfig.model_validate_json(fn_args.custom_config["config"])
    # Before the examples are read: TensorFlow joins other workers, or a TPU, only where it has run nothing yet.
    strategy = distributed.strategy_of(config.compute)
    checkpoint_dir = _checkpoint_dir(fn_args, config)
    with common.chiefs_outputs(fn_args, strategy) as outputs:
        _pretrain(outputs, config, checkpoint_dir=checkpoint_dir)


def _pretrain(fn_args: FnArgs, config: PretrainConfig, *, checkpoint_dir: str) -> None:
    files = sources.open_examples(fn_args.train_files)
    pretrained = stages.pretrain(
        config,
        files,
        seed=fn_args.custom_config["seed"],
        checkpoint_dir=checkpoint_dir,
        log_dir=os.path.join(fn_args.model_run_dir, "tensorboard"),
        report=common.progress_reporter("pretraining"),
    )
    pretrained.history.write(os.path.join(fn_args.model_run_dir, "history.csv"))
    pretrained.diagnostics.write(os.path.join(fn_args.model_run_dir, "diagnostics.csv"))
    _write_views(fn_args, config, files)
    common.write_json(fn_args.model_run_dir, "channels.json", _channels(files))
    served = export.ServedEncoder(pretrained.encoder, common.preprocessing_layer(fn_args))
    export.save_served(served, fn_args.serving_model_dir)
    export.save_encoder(pretrained.encoder, config.encoder, fn_args.serving_model_dir)
    export.save_head(pretrained.head, config.head, fn_args.serving_model_dir)


def _checkpoint_dir(fn_args: FnArgs, config: PretrainConfig) -> str:
    """One directory for one training: other data, code or settings never find this one's checkpoints.

    The machines are none of that: what was begun on some of them goes on on others.
    """
    settings = fn_args.custom_config
    deciding = checkpoints.fixed(config.model_dump(mode="json")), settings["seed"], settings["code_version"]
    identity = json.dumps([sorted(fn_args.train_files), *deciding], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return os.path.join(settings["checkpoint_root"], name)


def _channels(files: sources.ExampleFiles) -> dict[str, list[float]]:
    """What Transform wrote into every example: mean and standard deviation of red, green and blue over all images."""
    compression = "GZIP" if files.paths[0].endswith(".gz") else ""
    record = next(iter(tf.data.TFRecordDataset(list(files.paths), compression)))
    features = {f"channel_{name}": tf.io.FixedLenFeature([3], tf.float32) for name in ("mean", "std")}
    return {name: value.numpy().tolist() for name, value in tf.io.parse_single_example(record, features).items()}


def _write_views(fn_args: FnArgs, config: PretrainConfig, files: sources.ExampleFiles) -> None:
    seed = fn_args.custom_config["seed"]
    count = min(_SHOWN_VIEWS, files.count)
    batch = next(iter(data.training_batches(files, batch_size=count, epochs=1, seed=seed)))
    size_px = config.augment.crop.size_px or files.short_side_px
    view_a, view_b = views.pair_maker(config.augment, size_px=size_px, seed=seed)(batch)
    common.write_arrays(
        fn_args.model_run_dir,
        "views.npz",
        original=batch["image"],
        view_a=np.round(view_a.numpy() * 255).astype(np.uint8),
        view_b=np.round(view_b.numpy() * 255).astype(np.uint8),
    )
