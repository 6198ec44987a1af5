"""Who looks at a network while it is pretrained: at the same images, now and then, in numbers and in words."""

import logging
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras

from trainer import data, diagnostics, sources, views
from trainer.config import PretrainConfig
from trainer.history import History, Metrics

_STUCK_AFTER = 0.2  # share of the steps, after any usual warm-up
_STEP_METRICS = ("loss", "gradient_norm")  # of the training step, beside what is measured
_IMAGES_AT_ONCE = 64  # embedded: inference on these takes less memory than any training step
_FEWEST_IMAGES = 2  # that have a negative
_UNLABELED = -1
_LOGGER = logging.getLogger(__name__)

Views = Callable[[views.Batch], tuple[tf.Tensor, tf.Tensor]]


class Watcher:
    """Looks at the network now and then: `loop.train` calls it after every step."""

    def __init__(
        self,
        look: Callable[[], diagnostics.Look],
        *,
        every_steps: int,
        total_steps: int,
        n_candidates: int,
        queue_size: int = 0,
        path: str | None = None,
    ) -> None:
        """
        Args:
            look: embeds two views of some images.
            every_steps: between two looks, each at the next step that is logged; 0 for none, the loss alone is
                watched then.
            total_steps: of the training.
            n_candidates: 2N−1, rows of a batch among which the positive is to be found.
            queue_size: K, of further negatives; each step adds 2N until they are there.
            path: CSV of the looks, gone on with where a training is resumed; None writes none.
        """
        self._look, self._every_steps, self._path = look, every_steps, path
        self._stuck_from, self._n_candidates, self._queue_size = _STUCK_AFTER * total_steps, n_candidates, queue_size
        self._total_steps = total_steps
        self._history: History | None = None

    def history(self, last_step: int) -> History:
        """The looks of this training up to a step, with those before a resume."""
        if self._history is None:
            self._history = History()
            if self._path and tf.io.gfile.exists(self._path):
                self._history.read(self._path, last_step=last_step)
        return self._history

    def __call__(self, done: int, row: Metrics | None) -> None:
        """Where the step is logged: warns of a stuck loss, and if a look is due, measures, writes and warns."""
        history = self.history(done - 1)
        if row is None:
            return
        remembered = min((done - 1) * (self._n_candidates + 1), self._queue_size)
        words = diagnostics.stuck_warning(row["loss"], n_candidates=self._n_candidates + remembered)
        if words and done >= self._stuck_from:
            self._stuck_from = math.inf  # once is enough
            _LOGGER.warning("step %d: %s", done, words)
        if self._is_due(done, history):
            self._measure(done, row, history)

    def _is_due(self, done: int, history: History) -> bool:
        if not self._every_steps:
            return False
        last = history.rows[-1]["step"] if history.rows else 0
        return done // self._every_steps > last // self._every_steps or done == self._total_steps

    def _measure(self, done: int, row: Metrics, history: History) -> None:
        metrics = diagnostics.measure(self._look())
        for name, value in metrics.items():
            tf.summary.scalar(f"diagnostics/{name}", value, step=done)
        history.rows.append({"step": done} | {name: row[name] for name in _STEP_METRICS if name in row} | metrics)
        if self._path and tf.distribute.get_strategy().extended.should_save_summary:
            history.write(self._path)
        words = diagnostics.collapse_warning(metrics)
        if words:
            _LOGGER.warning("step %d: %s", done, words)


def watcher_of(
    config: PretrainConfig,
    encoder: tf_keras.Model,
    head: tf_keras.Model,
    files: sources.ExampleFiles,
    *,
    labeled: sources.ExampleFiles | None,
    batch_size: int,
    total_steps: int,
    seed: int,
    path: str | None = None,
) -> Watcher:
    """Watches a pretraining by the same images throughout, an equal number for each look.

    Args:
        config: of the pretraining; `config.diagnostics` says how often and how many images.
        encoder: images → h.
        head: h → z.
        files: the training's images, looked at where there are no others, and without their labels.
        labeled: images whose labels the nearest neighbours vote on; they move no weight.
        batch_size: N, images a step of the training.
        total_steps: of the training.
        seed: of the training, whose views are looked at.
        path: of the CSV, if one is to be written.

    Raises:
        ValueError: there are fewer than two images to look at.
    """
    watched = labeled or files
    if watched.count < _FEWEST_IMAGES:
        raise ValueError(f"{watched.count} images to watch: give {_FEWEST_IMAGES} or more, or none")
    n_images = min(config.diagnostics.images, watched.count)
    chunk = min(n_images, _IMAGES_AT_ONCE)
    batches = data.sample_batches(watched, batch_size=chunk, n_batches=n_images // chunk, seed=seed)
    if not labeled:
        batches = batches.map(lambda batch: batch | {"label": tf.fill([chunk], tf.constant(_UNLABELED, tf.int64))})
    make_views = views.pair_maker(config.augment, size_px=encoder.input_shape[1], seed=seed, compiled=False)
    return Watcher(
        embedder(encoder, head, make_views, batches.cache()),
        every_steps=config.diagnostics.every_steps,
        total_steps=total_steps,
        n_candidates=2 * batch_size - 1,
        queue_size=config.memory.queue_size,
        path=path,
    )


def embedder(
    encoder: tf_keras.Model, head: tf_keras.Model, make_views: Views, batches: tf.data.Dataset
) -> Callable[[], diagnostics.Look]:
    """Looks at the same views of the same images every time, batch norm in inference mode.

    Args:
        encoder: images → h.
        head: h → z.
        make_views: of `views.pair_maker`, as in pretraining.
        batches: of `data.training_batches`, finite.
    """

    @tf.function(autograph=False)
    def embed(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        both = tf.concat(make_views(batch), axis=0)
        h = encoder(both, training=False)
        return h, head(h, training=False)

    def look() -> diagnostics.Look:
        outputs = [(*embed(batch), batch["label"]) for batch in batches]
        h, z = (np.concatenate([_views_first(output[which]) for output in outputs], axis=1) for which in (0, 1))
        label = np.concatenate([output[2].numpy() for output in outputs])
        return diagnostics.Look(h=h.reshape(-1, h.shape[-1]), z=z.reshape(-1, z.shape[-1]), label=label)

    return look


def _views_first(output: tf.Tensor) -> np.ndarray:
    return tf.cast(output, tf.float32).numpy().reshape(2, -1, output.shape[-1])
