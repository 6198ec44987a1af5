"""What a frozen encoder is worth on labelled images: nearest neighbours and a linear probe."""

import tf_keras

from trainer import loop, probes, sources, stages
from trainer.config import ClassifierConfig, EncoderConfig, ProbeConfig

Scores = dict[str, tuple[dict[str, float], dict[str, float]]]


def scores(
    config: ProbeConfig,
    encoder: tf_keras.Model,
    train: sources.ExampleFiles,
    test: sources.ExampleFiles,
    *,
    encoder_config: EncoderConfig,
    seed: int,
    checkpoint_dir: str | None = None,
    report: loop.Report | None = None,
) -> Scores:
    """Scores h by `knn` and by a linear probe, which is named after its method (arXiv 2002.05709, appendix B.6).

    Args:
        config: of both.
        encoder: images → h; runs in inference mode and is not changed.
        train: labelled images to learn from, which know their classes.
        test: labelled images of the same classes.
        encoder_config: of the encoder.
        seed: of the probe.
        checkpoint_dir: of a probe that is trained by gradients.
        report: receives its progress.

    Returns:
        By name, top-1 and top-5 accuracy in [0, 1], and the settings that were chosen or trained with.
    """
    n_classes = len(train.classes)
    h_train, h_test = probes.embed(encoder, train), probes.embed(encoder, test)
    knn, chosen = probes.knn_probabilities(config, h_train, h_test, n_classes=n_classes)
    found = {"knn": (probes.top_accuracies(knn, h_test.label), chosen)}
    if config.method == "gradient":
        classifier = stages.train_classifier(
            config.gradient,
            train,
            seed=seed,
            encoder_config=encoder_config,
            size_px=encoder.input_shape[1],
            n_classes=n_classes,
            pretrained=encoder,
            frozen=True,
            checkpoint_dir=checkpoint_dir,
            report=report,
        )
        scored = probes.classify(classifier.model, test)
        trained_with = _settings(config.gradient, classifier, n_images=train.count)
        return found | {config.method: (probes.top_accuracies(scored.probabilities, scored.label), trained_with)}
    linear, chosen = probes.linear_probabilities(config, h_train, h_test, n_classes=n_classes, seed=seed)
    return found | {config.method: (probes.top_accuracies(linear, h_test.label), chosen)}


def _settings(config: ClassifierConfig, classifier: stages.Classifier, *, n_images: int) -> dict[str, float]:
    """What the figure of a training depends on; the epochs are those that were done."""
    batch_size = min(config.batch_size, n_images)
    return {
        "learning_rate": config.optimizer.peak(batch_size),
        "weight_decay": config.optimizer.weight_decay,
        "epochs": classifier.history.rows[-1]["epoch"],
        "batch_size": float(batch_size),
    }
