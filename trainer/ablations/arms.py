"""What a cell of a table measures: which networks are trained for it, and what is scored."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from trainer import evaluation, probes, resnet, stages
from trainer.ablations import properties
from trainer.ablations.bench import Bench, Measured
from trainer.config import MethodConfig


@dataclass(frozen=True)
class Arm(abc.ABC):
    """What is measured.

    Attributes:
        sections: of the configuration on which the figure depends, beside the seed and the images.
        labels: whether it depends on the images' own labels too.
    """

    sections: ClassVar[tuple[str, ...]]
    labels: ClassVar[bool] = True

    @abc.abstractmethod
    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Trains what is not trained yet, and scores it on the test images."""


@dataclass(frozen=True)
class Linear(Arm):
    """A linear probe of h on a share of the labels; of an untrained encoder it is the control."""

    sections = ("pretrain", "probe")
    fraction: float = 1.0
    untrained: bool = False

    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Accuracies of the probe, and its settings."""
        if self.untrained:
            size_px = bench.size_px(config)
            encoder = resnet.build_encoder(config.pretrain.encoder, size_px=size_px, seed=config.seed + 1)
        else:
            encoder = bench.pretrained(config).encoder
        train = bench.labeled(config, self.fraction)
        with bench.training("linear probe") as report:
            scores = evaluation.scores(
                config.probe,
                encoder,
                train,
                bench.test(config),
                encoder_config=config.pretrain.encoder,
                seed=config.seed,
                checkpoint_dir=bench.directory("probe", config, train, config.pretrain, float(self.untrained)),
                report=report,
            )
        accuracies, settings = scores[config.probe.method]
        return accuracies | settings


@dataclass(frozen=True)
class FineTuned(Arm):
    """The pretrained encoder, fine-tuned on a share of the labels."""

    sections = ("pretrain", "finetune")
    fraction: float = 1.0

    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Accuracies of the classifier."""
        return bench.accuracies(bench.finetuned(config, self.fraction), config)


@dataclass(frozen=True)
class Supervised(Arm):
    """A network from scratch on a share of the labels: the one that is pretrained, or the student."""

    sections = ("pretrain", "supervised", "distill")
    fraction: float = 1.0
    student: bool = False

    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Accuracies of the classifier."""
        encoder_config = config.distill.student if self.student else config.pretrain.encoder
        files = bench.labeled(config, self.fraction)
        with bench.training("supervised") as report:
            classifier = stages.train_classifier(
                config.supervised,
                files,
                seed=config.seed,
                encoder_config=encoder_config,
                size_px=bench.size_px(config),
                n_classes=len(files.classes),
                checkpoint_dir=bench.directory("supervised", config, files, encoder_config),
                report=report,
            )
        return bench.accuracies(classifier, config)


@dataclass(frozen=True)
class Distilled(Arm):
    """A student of the encoder that was fine-tuned on a share of the labels (arXiv 2006.10029, section 2.1).

    It sees the images of that share, or all; their labels count where `distill.label_weight` is over 0.
    """

    sections = ("pretrain", "finetune", "distill")
    fraction: float = 1.0
    on_labeled: bool = False

    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Accuracies of the student."""
        if self.on_labeled:
            files = bench.labeled(config, self.fraction)
        elif config.distill.label_weight:
            files = bench.partly_labeled(config, self.fraction)
        else:
            files = bench.unlabeled(config)
        teacher = bench.finetuned(config, self.fraction)
        with bench.training("distillation") as report:
            student = stages.distill(
                config.distill,
                files,
                seed=config.seed,
                teacher=teacher.model,
                checkpoint_dir=bench.directory(
                    "distill", config, files, config.pretrain, config.finetune, self.fraction
                ),
                report=report,
            )
        return bench.accuracies(student, config)


@dataclass(frozen=True)
class Kept(Arm):
    """Whether h or g(h) tells what was done to an image: a linear probe (arXiv 2002.05709, table 3)."""

    sections = ("pretrain", "probe")
    labels = False
    change: properties.Change
    layer: Literal["h", "g(h)"]

    def measure(self, bench: Bench, config: MethodConfig) -> Measured:
        """Accuracies of the probe; its labels are made, so that any images do."""
        trained, size_px = bench.pretrained(config), bench.size_px(config)
        embedded = []
        for files in (bench.unlabeled(config), bench.test(config, labels=False)):
            batches, label = properties.changed_images(files, self.change, size_px=size_px, seed=config.seed)
            h = np.concatenate([trained.encoder(images, training=False) for images in batches])
            features = h if self.layer == "h" else trained.head(h, training=False).numpy()
            embedded.append(probes.Embedded(features, label, np.arange(len(label)).astype(str)))
        # Solved, whatever the probe's method: its augmentation would undo or hide what was done.
        solved = config.probe.model_copy(update={"method": "logistic"})
        n_classes = properties.N_CLASSES[self.change]
        probabilities, settings = probes.linear_probabilities(
            solved, *embedded, n_classes=n_classes, seed=config.seed
        )
        return probes.top_accuracies(probabilities, embedded[1].label) | settings
