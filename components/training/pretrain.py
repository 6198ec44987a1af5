"""`run_fn` of the Trainer that pretrains: unlabeled examples → encoder."""

import dataclasses
import logging
import os

import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common, warm_start
from components.training.settings import WarmStartConfig
from trainer import data, distributed, export, sources, stages, views, weights
from trainer.config import PretrainConfig

_SHOWN_VIEWS = 8
_LOGGER = logging.getLogger("simclr.progress")


def run_fn(fn_args: FnArgs) -> None:
    """Pretrains and exports the encoder behind the Transform's graph; goes on from its checkpoint if it was killed.

    The graph is that of the labelled images, whose size the network takes: the unlabeled ones may be of another.
    `custom_config`: `config` (JSON of PretrainConfig), `seed`, `checkpoint_root` (a directory that outlives the
    execution), `code_version`; for a warm start `warm_start` (JSON of WarmStartConfig) and `pushed` (folder of the
    pushed versions). The champion is looked up now and is no input: that it is another is no reason to train again.
    """
    config = PretrainConfig.model_validate_json(fn_args.custom_config["config"])
    # Before the examples are read: TensorFlow joins other workers, or a TPU, only where it has run nothing yet.
    strategy = distributed.strategy_of(config.compute)
    config = _sized(config, fn_args)
    warm_start_config = WarmStartConfig.model_validate_json(fn_args.custom_config.get("warm_start", "{}"))
    start = warm_start.choose(warm_start_config, config, pushed=fn_args.custom_config.get("pushed", ""))
    config = warm_start.scheduled(config, warm_start_config, start)
    if warm_start_config.enabled:
        _LOGGER.info("%s", start.words)
    with common.chiefs_outputs(fn_args, strategy) as outputs:
        _pretrain(outputs, config, start)


def _pretrain(fn_args: FnArgs, config: PretrainConfig, start: warm_start.Start) -> None:
    files = sources.open_examples(fn_args.train_files)
    pretrained = stages.pretrain(
        config,
        files,
        seed=fn_args.custom_config["seed"],
        checkpoint_dir=common.checkpoint_dir(fn_args, config, files=files, origin=start.digest),
        log_dir=os.path.join(fn_args.model_run_dir, "tensorboard"),
        report=common.progress_reporter("pretraining"),
        initial_weights=start.weights,
    )
    pretrained.history.write(os.path.join(fn_args.model_run_dir, "history.csv"))
    pretrained.diagnostics.write(os.path.join(fn_args.model_run_dir, "diagnostics.csv"))
    _write_views(fn_args, config, files)
    common.write_json(fn_args.model_run_dir, "channels.json", _channels(files))
    served = export.ServedEncoder(pretrained.encoder, common.Preprocessing(fn_args.transform_graph_path))
    export.save_served(served, fn_args.serving_model_dir)
    export.save_encoder(pretrained.encoder, config.encoder, fn_args.serving_model_dir)
    export.save_head(pretrained.head, config.head, fn_args.serving_model_dir)
    told = dataclasses.asdict(start) | {"encoder": weights.digest(pretrained.encoder)}
    for directory in (os.path.join(fn_args.serving_model_dir, export.EXTRA), fn_args.model_run_dir):
        common.write_json(directory, warm_start.START_FILE, told)


def _sized(config: PretrainConfig, fn_args: FnArgs) -> PretrainConfig:
    size_px = common.network_size_px(fn_args, config.augment)
    crop = config.augment.crop.model_copy(update={"size_px": size_px})
    return config.model_copy(update={"augment": config.augment.model_copy(update={"crop": crop})})


def _channels(files: sources.ExampleFiles) -> dict[str, list[float]]:
    """What Transform wrote into every example: mean and standard deviation of red, green and blue over all images."""
    compression = "GZIP" if files.paths[0].endswith(".gz") else ""
    record = next(iter(tf.data.TFRecordDataset(list(files.paths), compression)))
    features = {f"channel_{name}": tf.io.FixedLenFeature([3], tf.float32) for name in ("mean", "std")}
    return {name: value.numpy().tolist() for name, value in tf.io.parse_single_example(record, features).items()}


def _write_views(fn_args: FnArgs, config: PretrainConfig, files: sources.ExampleFiles) -> None:
    seed = fn_args.custom_config["seed"]
    count = min(_SHOWN_VIEWS, files.count)
    (batch,) = data.sample_batches(files, batch_size=count, n_batches=1, seed=seed)
    size_px = config.augment.crop.size_px
    view_a, view_b = views.pair_maker(config.augment, size_px=size_px, seed=seed, compiled=False)(batch)
    common.write_arrays(
        fn_args.model_run_dir,
        "views.npz",
        original=batch["image"],
        view_a=np.round(view_a.numpy() * 255).astype(np.uint8),
        view_b=np.round(view_b.numpy() * 255).astype(np.uint8),
    )
