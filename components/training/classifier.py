"""`run_fn` of the Trainers that learn from labels: fine-tuning, and the same network from scratch."""

import os

import numpy as np
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.training import common
from trainer import export, probes, sources, stages
from trainer.config import ClassifierConfig, EncoderConfig


def run_fn(fn_args: FnArgs) -> None:
    """Trains on one label fraction, scores on the test images and exports the classifier behind its preprocessing.

    With a `base_model` its encoder is fine-tuned; without one the network starts at random.
    `custom_config`: `arm`, `fraction`, `config` (JSON of ClassifierConfig), `encoder` (JSON of EncoderConfig),
    `seed`, `code_version`.

    Raises:
        ValueError: the encoder was pretrained for images of another size than these.
    """
    settings = fn_args.custom_config
    config = ClassifierConfig.model_validate_json(settings["config"])
    files, test = sources.open_examples(fn_args.train_files), sources.open_examples(fn_args.eval_files)
    classes = common.class_names(fn_args)
    encoder_config = EncoderConfig.model_validate_json(settings["encoder"])
    encoder, head, size_px = None, None, common.network_size_px(fn_args, config.augment)
    if fn_args.base_model:
        encoder, encoder_config = export.load_encoder(fn_args.base_model)
        head = export.load_head(fn_args.base_model)[0] if config.head_layer else None
        pretrained_px = encoder.input_shape[1]
        if pretrained_px != size_px:
            raise ValueError(
                f"the encoder was pretrained for images of {pretrained_px} px, the labelled ones are of {size_px} px "
                "and so is the baseline's network: pretrain again with the same data.image_size_px"
            )
    classifier = stages.train_classifier(
        config,
        files,
        seed=settings["seed"],
        encoder_config=encoder_config,
        size_px=size_px,
        n_classes=len(classes),
        pretrained=encoder,
        pretrained_head=head,
        report=common.progress_reporter(f"{settings['arm']} on {settings['fraction']:.4g} of the labels"),
    )
    # On Vertex AI nobody has made it, as the local runner does.
    fileio.makedirs(fn_args.model_run_dir)
    classifier.history.write(os.path.join(fn_args.model_run_dir, "history.csv"))
    _write_scores(fn_args, classifier, config, n_labels=files.count, test=test, classes=classes)
    served = export.ServedClassifier(
        classifier.model, common.Preprocessing(fn_args.transform_graph_path), classes=classes
    )
    export.save_served(served, fn_args.serving_model_dir)
    export.save_classes(classes, fn_args.serving_model_dir)


def _write_scores(
    fn_args: FnArgs,
    classifier: stages.Classifier,
    config: ClassifierConfig,
    *,
    n_labels: int,
    test: sources.ExampleFiles,
    classes: list[str],
) -> None:
    scored = probes.classify(classifier.model, test)
    settings = fn_args.custom_config
    row = {
        "arm": settings["arm"],
        "label_fraction": settings["fraction"],
        "n_labels": n_labels,
        **probes.top_accuracies(scored.probabilities, scored.label),
        "n_test": len(scored.label),
        "seed": settings["seed"],
        "settings": {
            "optimizer": config.optimizer.name,
            "learning_rate": config.optimizer.learning_rate,
            "weight_decay": config.optimizer.weight_decay,
            "steps": classifier.history.rows[-1]["step"],
            "batch_size": min(config.batch_size, n_labels),
        },
    }
    common.write_json(fn_args.model_run_dir, "rows.json", [row])
    common.write_json(fn_args.model_run_dir, "classes.json", classes)
    common.write_arrays(
        fn_args.model_run_dir,
        "predictions.npz",
        probabilities=scored.probabilities.astype(np.float32),
        label_index=scored.label,
        key=scored.key,
    )
