"""What the cells of a table share: the images, and networks that several of them need and that are trained once."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from trainer import checkpoints, folders, loop, opening, probes, sources, stages, subsets
from trainer.config import MethodConfig, Settings

Measured = dict[str, float]
Training = Callable[[str], AbstractContextManager[loop.Report]]
_NAME_DIGITS = 12  # of a hash, for the folder of a training


@dataclasses.dataclass(frozen=True)
class Images:
    """Where the images are.

    Attributes:
        unlabeled: what is pretrained on.
        labeled: folder of class folders.
        test: folder of the same class folders, which only scores.
        open: opens one of them at a size.
    """

    unlabeled: str
    labeled: str
    test: str
    open: Callable[[str, int | None], sources.ExampleFiles]


class Bench:
    """Images by their settings and trained networks by their identity: each is made once, and outlives a kill."""

    def __init__(self, images: Images, *, output: str, training: Training) -> None:
        """
        Args:
            images: where they are.
            output: folder of the trainings' checkpoints.
            training: for each training, by its name, a context that draws its progress.
        """
        self._images, self._output, self.training = images, output, training
        self._opened: dict[tuple[str, int | None], sources.ExampleFiles] = {}
        self._pretrained: tuple[str, stages.Pretrained] | None = None  # the last, which the next cell mostly wants

    def unlabeled(self, config: MethodConfig) -> sources.ExampleFiles:
        """What is pretrained on."""
        return self._open(self._images.unlabeled, config.pretrain.augment.crop.size_px)

    def size_px(self, config: MethodConfig) -> int:
        """The side of all networks' input."""
        return config.pretrain.augment.crop.size_px or self.unlabeled(config).short_side_px

    def labeled(self, config: MethodConfig, fraction: float = 1.0) -> folders.ImageFolder:
        """A share of the labelled images, the same share of each class; smaller shares lie inside larger ones."""
        files = self._open_classes(self._images.labeled, config)
        return subsets.label_fraction(files, fraction, seed=config.seed)

    def partly_labeled(self, config: MethodConfig, fraction: float) -> folders.ImageFolder:
        """What is pretrained on, with the labels of a share and no others."""
        return subsets.with_labels_of(self.unlabeled(config), self.labeled(config, fraction))

    def test(self, config: MethodConfig, *, labels: bool = True) -> sources.ExampleFiles:
        """What only scores.

        Raises:
            ValueError: labels are wanted, and the classes are not those of the labelled images.
        """
        if not labels:
            return self._open(self._images.test, self.size_px(config))
        classes, test = self.labeled(config).classes, self._open_classes(self._images.test, config)
        if test.classes != classes:
            raise ValueError(
                f"{self._images.test} must have the class folders of {self._images.labeled}; "
                f"differing: {sorted(set(classes) ^ set(test.classes))}"
            )
        return test

    def check_apart(self, config: MethodConfig) -> None:
        """Refuses test images that are trained on; see `opening.check_apart`."""
        labeled = self._open(self._images.labeled, self.size_px(config))
        opening.check_apart(self.test(config, labels=False), self.unlabeled(config), labeled)

    def pretrained(self, config: MethodConfig) -> stages.Pretrained:
        """The encoder and the head of these settings."""
        files = self.unlabeled(config)
        directory = self.directory("pretrain", config, files)
        if self._pretrained is None or self._pretrained[0] != directory:
            with self.training("pretraining") as report:
                pretrained = stages.pretrain(
                    config.pretrain, files, seed=config.seed, checkpoint_dir=directory, report=report
                )
            self._pretrained = directory, pretrained
        return self._pretrained[1]

    def finetuned(self, config: MethodConfig, fraction: float) -> stages.Classifier:
        """The pretrained encoder, fine-tuned on a share of the labels."""
        pretrained, files = self.pretrained(config), self.labeled(config, fraction)
        with self.training("fine-tuning") as report:
            return stages.train_classifier(
                config.finetune,
                files,
                seed=config.seed,
                encoder_config=config.pretrain.encoder,
                size_px=self.size_px(config),
                n_classes=len(files.classes),
                pretrained=pretrained.encoder,
                pretrained_head=pretrained.head,
                checkpoint_dir=self.directory("finetune", config, files, config.pretrain),
                report=report,
            )

    def accuracies(self, classifier: stages.Classifier, config: MethodConfig) -> Measured:
        """Top-1 and top-5 on the test images."""
        scored = probes.classify(classifier.model, self.test(config))
        return probes.top_accuracies(scored.probabilities, scored.label)

    def directory(
        self, section: str, config: MethodConfig, files: sources.ExampleFiles, *more: Settings | float
    ) -> str:
        """The folder of a training: one for each section of the settings, seed, images, and what else decides."""
        decisive = [each.model_dump(mode="json") if isinstance(each, Settings) else {"": each} for each in more]
        identity = {
            "seed": config.seed,
            "images": sources.fingerprint(files),
            "settings": [
                checkpoints.fixed(each) for each in (getattr(config, section).model_dump(mode="json"), *decisive)
            ],
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return os.path.join(self._output, f"{section}-{digest[:_NAME_DIGITS]}")

    def identity(self, config: MethodConfig, *, labels: bool) -> dict[str, Any]:
        """The seed and the images, by which a figure is told from another."""
        sets = {"unlabeled": self.unlabeled(config), "test": self.test(config, labels=labels)}
        if labels:
            sets["labeled"] = self.labeled(config)
        return {"seed": config.seed, "images": {name: sources.fingerprint(files) for name, files in sets.items()}}

    def _open(self, path: str, size_px: int | None) -> sources.ExampleFiles:
        if (path, size_px) not in self._opened:
            self._opened[path, size_px] = self._images.open(path, size_px)
        return self._opened[path, size_px]

    def _open_classes(self, path: str, config: MethodConfig) -> folders.ImageFolder:
        files = self._open(path, self.size_px(config))
        if not files.classes:
            raise ValueError(f"{path} has no class folders: put the images of each class into a folder of its name")
        return files
