"""`run_fn` of Distill: a fine-tuned network teaches another on the unlabeled images, SimCLRv2's third step."""

import dataclasses

from tfx.components.trainer.fn_args_utils import FnArgs

from components.distill.executor import UNLABELED_FILES
from components.training import common
from components.training.left import leave
from trainer import distributed, export, sources, stages, subsets, weights
from trainer.config import DistillConfig
from trainer.enumeration import first_few_quoted


def run_fn(fn_args: FnArgs) -> None:
    """Trains the student and exports it as its teacher was; goes on from its checkpoint if it was killed.

    `base_model` is the teacher, fine-tuned on the fraction of the labels whose examples `train_files` are. These are
    learned from where labels count, and the unlabeled images always.
    `custom_config`: `fraction`, `config` (JSON of DistillConfig), `seed`, `checkpoint_root` (a directory that
    outlives the execution), `code_version`, and `unlabeled_files`, patterns that the executor adds.

    Raises:
        ValueError: the teacher knows other classes than the labelled images have.
    """
    config = DistillConfig.model_validate_json(fn_args.custom_config["config"])
    # Before anything is computed: TensorFlow joins other workers, or a TPU, only where it has run nothing yet.
    strategy = distributed.strategy_of(config.compute)
    with common.chiefs_outputs(fn_args, strategy) as outputs:
        _distill(outputs, config)


def _distill(fn_args: FnArgs, config: DistillConfig) -> None:
    settings = fn_args.custom_config
    teacher, _, taught = export.load_classifier(fn_args.base_model)
    classes = common.class_names(fn_args)
    if list(taught) != classes:
        differing = first_few_quoted(sorted({*taught} ^ {*classes})) or "their order"
        raise ValueError(
            f"the teacher answers with the classes {first_few_quoted(taught)}, the labelled images have "
            f"{first_few_quoted(classes)}; differing: {differing}. Fine-tune again on these images"
        )
    labeled = sources.open_examples(fn_args.train_files)
    files = unlabeled = sources.open_examples(settings[UNLABELED_FILES])
    if config.label_weight:
        files = subsets.with_labels_of(unlabeled, labeled)
    distilled = stages.distill(
        config,
        files,
        seed=settings["seed"],
        teacher=teacher,
        checkpoint_dir=common.checkpoint_dir(fn_args, config, files=files, origin=weights.digest(teacher)),
        report=common.progress_reporter(f"distillation of {settings['fraction']:.4g} of the labels"),
    )
    leave(
        fn_args,
        # A copy: what several devices or machines hold together is not scored and traced on one of them.
        dataclasses.replace(distilled, model=weights.copy_of(distilled.model)),
        test=sources.open_examples(fn_args.eval_files),
        classes=classes,
        row={
            "arm": "distill",
            "label_fraction": settings["fraction"],
            "n_labels": labeled.count,
            "seed": settings["seed"],
            "settings": {
                "optimizer": config.optimizer.name,
                "learning_rate": config.optimizer.learning_rate,
                "weight_decay": config.optimizer.weight_decay,
                "steps": distilled.history.rows[-1]["step"],
                "batch_size": min(config.batch_size, files.count),
                "temperature": config.temperature,
                "label_weight": config.label_weight,
            },
        },
        encoder=config.student,
    )
