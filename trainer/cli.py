"""The trainer's command line: parse, check, call. What a command writes, the next one reads."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from trainer.cli_command import command, images_option, labeled_option, model_option, output_option, test_option
from trainer.cli_models import embed, export, published
from trainer.config import ConfigError, MethodConfig, dump

if TYPE_CHECKING:
    import tf_keras

    from trainer.ablations.tables import Cell
    from trainer.loop import Report
    from trainer.sources import ExampleFiles

_CONSOLE = Console(highlight=False)


@command
def config(config: MethodConfig) -> None:
    """Print the whole configuration as YAML that --config reads."""
    click.echo(dump(config), nl=False)


@command
@images_option
@click.option("--labeled", metavar="PATH", help="Images with labels by which the training is watched, no more.")
@output_option
def pretrain(config: MethodConfig, images: str, labeled: str | None, output: str) -> None:
    """Pretrain an encoder without labels; goes on from its checkpoint if it was stopped."""
    from trainer import export, opening, stages

    size_px = config.pretrain.augment.crop.size_px
    files = opening.images(images, size_px)
    with _training("pretraining") as report:
        pretrained = stages.pretrain(
            config.pretrain,
            files,
            seed=config.seed,
            checkpoint_dir=_checkpoints(output),
            log_dir=os.path.join(output, "tensorboard"),
            report=report,
            labeled=opening.labeled(labeled, size_px or files.short_side_px) if labeled else None,
        )
    pretrained.history.write(os.path.join(output, "history.csv"))
    pretrained.diagnostics.write(os.path.join(output, "diagnostics.csv"))
    export.save_encoder(pretrained.encoder, config.pretrain.encoder, output)
    export.save_head(pretrained.head, config.pretrain.head, output)
    click.echo(f"encoder: {output}")


@command
@model_option
@labeled_option
@test_option
def probe(config: MethodConfig, model: str, labeled: str, test: str) -> None:
    """Score a frozen encoder: a linear probe of h, and nearest neighbours."""
    from trainer import evaluation, export, opening

    encoder, encoder_config = export.load_encoder(model)
    size_px = encoder.input_shape[1]
    train = opening.labeled(labeled, size_px)
    held_out = opening.labeled(test, size_px, classes=train.classes)
    opening.check_apart(held_out, train)
    scores = evaluation.scores(
        config.probe, encoder, train, held_out, encoder_config=encoder_config, seed=config.seed
    )
    rows = [(name, accuracies, settings) for name, (accuracies, settings) in scores.items()]
    _print_accuracies(rows)


@command
@click.option("--model", metavar="DIR", help="What `pretrain` wrote; without it the network starts from scratch.")
@labeled_option
@click.option("--test", metavar="PATH", help="Images with labels that only score.")
@output_option
def finetune(config: MethodConfig, model: str | None, labeled: str, test: str | None, output: str) -> None:
    """Fine-tune an encoder on labels, or train the same network from scratch: the supervised baseline.

    Goes on from its checkpoint if it was stopped.
    """
    from trainer import export, opening, stages

    settings = config.finetune if model else config.supervised
    encoder, head, head_config, encoder_config = None, None, None, config.pretrain.encoder
    if model:
        encoder, encoder_config = export.load_encoder(model)
        if settings.head_layer:
            head, head_config = export.load_head(model)
    size_px = encoder.input_shape[1] if encoder else settings.augment.crop.size_px
    files = opening.labeled(labeled, size_px)
    size_px = size_px or files.short_side_px
    held_out = test and opening.labeled(test, size_px, classes=files.classes)
    if held_out:
        opening.check_apart(held_out, files)
    with _training("fine-tuning" if model else "supervised") as report:
        classifier = stages.train_classifier(
            settings,
            files,
            seed=config.seed,
            encoder_config=encoder_config,
            size_px=size_px,
            n_classes=len(files.classes),
            pretrained=encoder,
            pretrained_head=head,
            checkpoint_dir=_checkpoints(output),
            report=report,
        )
    export.save_classifier(
        classifier.model,
        output,
        encoder=encoder_config,
        classes=files.classes,
        head=head_config,
        head_layer=settings.head_layer,
    )
    if held_out:
        _print_score("finetune", classifier.model, held_out)
    click.echo(f"classifier: {output}")


@command
@click.option("--teacher", required=True, metavar="DIR", help="What `finetune` or `distill` wrote.")
@images_option
@click.option("--labeled", metavar="PATH", help="Images with labels, for distill.label_weight over 0.")
@click.option("--test", metavar="PATH", help="Images with labels that only score.")
@output_option
def distill(
    config: MethodConfig, teacher: str, images: str, labeled: str | None, test: str | None, output: str
) -> None:
    """Train a student on a teacher's predictions for images without labels.

    With LABELED, a folder of the teacher's classes, its images are learned from as well; how much their labels count
    is distill.label_weight. An image that is in both folders is taken once. Goes on from its checkpoint if it was
    stopped.
    """
    from trainer import export, opening, stages, subsets

    if config.distill.label_weight and not labeled:
        raise ConfigError(
            f"distill.label_weight = {config.distill.label_weight}: labels count only with --labeled; give it, or 0"
        )
    taught_by, _, classes = export.load_classifier(teacher)
    size_px = taught_by.input_shape[1]
    files = opening.images(images, size_px)
    if labeled:
        files = subsets.with_labels_of(files, opening.labeled(labeled, size_px, classes=classes))
    held_out = test and opening.labeled(test, size_px, classes=classes)
    if held_out:
        opening.check_apart(held_out, files)
    with _training("distillation") as report:
        distilled = stages.distill(
            config.distill,
            files,
            seed=config.seed,
            teacher=taught_by,
            checkpoint_dir=_checkpoints(output),
            report=report,
        )
    export.save_classifier(distilled.model, output, encoder=config.distill.student, classes=classes)
    if held_out:
        _print_score("distill", distilled.model, held_out)
    click.echo(f"classifier: {output}")


@command
@click.argument("name")
@click.option("--data", "images", required=True, metavar="PATH", help="Images to pretrain on.")
@click.option(
    "--labeled", metavar="PATH", help="Images with labels to learn from; those of --data if it is left out."
)
@test_option
@click.option("--row", "rows", multiple=True, help="Only this row of the table. Repeatable.")
@click.option("--column", "columns", multiple=True, help="Only this column. Repeatable.")
@output_option
def ablate(
    config: MethodConfig,
    name: str,
    images: str,
    labeled: str | None,
    test: str,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    output: str,
) -> None:
    """Measure a table of the papers, and print it beside the published figures.

    NAME is color, composition, head, layers, batch, temperature, labels or distillation. What the table does not
    vary is as configured. A table that was stopped goes on at the cell it was in; cells that are measured are kept,
    and measured again if their settings have changed.
    """
    from trainer import opening
    from trainer.ablations import printing, runner
    from trainer.ablations.bench import Bench, Images
    from trainer.ablations.tables import ABLATIONS

    if name not in ABLATIONS:
        raise ConfigError(f"{name!r} is no table: must be one of {', '.join(ABLATIONS)}")
    ablation = ABLATIONS[name]
    cells = _chosen(ablation.cells(config), rows, columns)
    bench = Bench(
        Images(unlabeled=images, labeled=labeled or images, test=test, open=opening.images),
        output=os.path.join(output, "trainings"),
        training=_training,
    )
    bench.check_apart(config)
    results = runner.run(ablation, cells, bench, output=os.path.join(output, name), say=click.echo)
    _CONSOLE.print(printing.table_of(ablation, results))


def _chosen(cells: "list[Cell]", rows: tuple[str, ...], columns: tuple[str, ...]) -> "list[Cell]":
    """The cells in some rows and columns; where none is named, in all."""
    for kind, wanted in {"row": rows, "column": columns}.items():
        there = dict.fromkeys(getattr(cell, kind) for cell in cells)
        for name in wanted:
            if name not in there:
                raise ConfigError(f"{kind} {name!r}: must be one of {', '.join(there)}")
    return [cell for cell in cells if cell.row in (rows or [cell.row]) and cell.column in (columns or [cell.column])]


@contextmanager
def _training(stage: str) -> "Iterator[Report]":
    """Draws the progress of a training; one that SIGTERM stopped ends the command in good order."""
    from trainer import console, loop

    try:
        with console.progress(stage, _CONSOLE) as report:
            yield report
    except loop.PreemptedError as error:
        click.echo(error)
        sys.exit()


def _checkpoints(output: str) -> str:
    return os.path.join(output, "checkpoints")


def _print_score(name: str, model: "tf_keras.Model", files: "ExampleFiles") -> None:
    from trainer import probes

    scored = probes.classify(model, files)
    _print_accuracies([(name, probes.top_accuracies(scored.probabilities, scored.label), {})])


def _print_accuracies(rows: list[tuple[str, dict[str, float], dict[str, float]]]) -> None:
    table = Table("", "top-1 %", "top-5 %", "settings")
    for name, accuracies, settings in rows:
        shown = ", ".join(f"{key} {value:g}" for key, value in settings.items())
        table.add_row(name, f"{100 * accuracies['top1']:.1f}", f"{100 * accuracies['top5']:.1f}", shown)
    _CONSOLE.print(table)


@click.group(
    commands=[pretrain, probe, finetune, distill, embed, export, published, ablate, config],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def main() -> None:
    """SimCLR v1 and v2: pretraining without labels, and what is trained and measured on top of it.

    LABELED and TEST are folders with one folder of image files for each class. IMAGES is any folder of image
    files, or a glob of TFRecords of tf.Example with `image` and `key`.
    """
