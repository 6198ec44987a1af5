"""`run_fn` of the Trainers that learn from labels: fine-tuning, and the same network from scratch."""

from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import common
from components.training.left import leave
from trainer import export, sources, stages
from trainer.config import ClassifierConfig, EncoderConfig


def run_fn(fn_args: FnArgs) -> None:
    """Trains on one label fraction, scores on the test images and exports the classifier behind its preprocessing.

    Its weights lie beside what is served: distillation is taught by them, and the trainer's commands open them.
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
    encoder, head, head_config, size_px = None, None, None, common.network_size_px(fn_args, config.augment)
    if fn_args.base_model:
        encoder, encoder_config = export.load_encoder(fn_args.base_model)
        if config.head_layer:
            head, head_config = export.load_head(fn_args.base_model)
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
    leave(
        fn_args,
        classifier,
        test=test,
        classes=classes,
        row={
            "arm": settings["arm"],
            "label_fraction": settings["fraction"],
            "n_labels": files.count,
            "seed": settings["seed"],
            "settings": {
                "optimizer": config.optimizer.name,
                "learning_rate": config.optimizer.learning_rate,
                "weight_decay": config.optimizer.weight_decay,
                "steps": classifier.history.rows[-1]["step"],
                "batch_size": min(config.batch_size, files.count),
            },
        },
        encoder=encoder_config,
        head=head_config,
        head_layer=config.head_layer,
    )
