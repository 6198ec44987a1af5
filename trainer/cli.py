"""The trainer's command line: parse, check, call. What a command writes, the next one reads."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from trainer.config import PRESETS, ConfigError, MethodConfig, dump, load

if TYPE_CHECKING:
    from trainer.ablations.tables import Cell
    from trainer.loop import Report
    from trainer.sources import ExampleFiles

_EXIT_CONFIG, _EXIT_DATA = 2, 3
_CONSOLE = Console(highlight=False)
_Command = Callable[..., None]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """SimCLR v1 and v2: pretraining without labels, and what is trained and measured on top of it.

    LABELED and TEST are folders with one folder of image files for each class. IMAGES is any folder of image
    files, or a glob of TFRecords of tf.Example with `image` and `key`.
    """


def _command(command: _Command) -> _Command:
    """Registers a command that takes a configuration; its errors end in one line and an exit code."""

    @functools.wraps(command)
    def run(preset: str | None, path: str | None, overrides: tuple[str, ...], **arguments: Any) -> None:
        try:
            config = load(
                MethodConfig,
                defaults=MethodConfig().model_dump(mode="json"),
                path=path,
                overrides=([f"preset={preset}"] if preset else []) + list(overrides),
            )
            _quiet()
            command(config, **arguments)
        except ConfigError as error:
            _fail(f"configuration: {error}", _EXIT_CONFIG)
        except ValueError as error:
            _fail(str(error), _EXIT_DATA)

    for option in (
        click.option("--set", "overrides", metavar="FIELD=VALUE", multiple=True, help="One field. Repeatable."),
        click.option("--config", "path", metavar="FILE", help="YAML file with any part of the configuration."),
        click.option("--preset", type=click.Choice(list(PRESETS)), help="The settings of a paper's table."),
    ):
        run = option(run)
    return main.command()(run)


_images = click.option("--images", required=True, metavar="PATH", help="Images; their labels are not looked at.")
_labeled = click.option("--labeled", required=True, metavar="PATH", help="Images with labels to learn from.")
_test = click.option("--test", required=True, metavar="PATH", help="Images with labels that only score.")
_model = click.option("--model", required=True, metavar="DIR", help="What `pretrain` wrote.")
_output = click.option("--output", required=True, metavar="DIR", help="Folder of everything that is written.")


@_command
def config(config: MethodConfig) -> None:
    """Print the whole configuration as YAML that --config reads."""
    click.echo(dump(config), nl=False)


@_command
@_images
@click.option("--labeled", metavar="PATH", help="Images with labels by which the training is watched, no more.")
@_output
def pretrain(config: MethodConfig, images: str, labeled: str | None, output: str) -> None:
    """Pretrain an encoder without labels; goes on from its checkpoint if it was stopped."""
    from trainer import export, stages

    size_px = config.pretrain.augment.crop.size_px
    files = _open(images, size_px)
    with _training("pretraining") as report:
        pretrained = stages.pretrain(
            config.pretrain,
            files,
            seed=config.seed,
            checkpoint_dir=_checkpoints(output),
            log_dir=os.path.join(output, "tensorboard"),
            report=report,
            labeled=_open_labeled(labeled, size_px or files.short_side_px) if labeled else None,
        )
    pretrained.history.write(os.path.join(output, "history.csv"))
    pretrained.diagnostics.write(os.path.join(output, "diagnostics.csv"))
    export.save_encoder(pretrained.encoder, config.pretrain.encoder, output)
    export.save_head(pretrained.head, config.pretrain.head, output)
    click.echo(f"encoder: {output}")


@_command
@_model
@_labeled
@_test
def probe(config: MethodConfig, model: str, labeled: str, test: str) -> None:
    """Score a frozen encoder: a linear probe of h, and nearest neighbours."""
    from trainer import evaluation, export

    encoder, encoder_config = export.load_encoder(model)
    size_px = encoder.input_shape[1]
    train = _open_labeled(labeled, size_px)
    held_out = _open_labeled(test, size_px, classes=train.classes)
    scores = evaluation.scores(
        config.probe, encoder, train, held_out, encoder_config=encoder_config, seed=config.seed
    )
    rows = [(name, accuracies, settings) for name, (accuracies, settings) in scores.items()]
    _print_accuracies(rows)


@_command
@click.option("--model", metavar="DIR", help="What `pretrain` wrote; without it the network starts from scratch.")
@_labeled
@click.option("--test", metavar="PATH", help="Images with labels that only score.")
@_output
def finetune(config: MethodConfig, model: str | None, labeled: str, test: str | None, output: str) -> None:
    """Fine-tune an encoder on labels, or train the same network from scratch: the supervised baseline.

    Goes on from its checkpoint if it was stopped.
    """
    from trainer import export, probes, stages

    settings = config.finetune if model else config.supervised
    encoder, head, head_config, encoder_config = None, None, None, config.pretrain.encoder
    if model:
        encoder, encoder_config = export.load_encoder(model)
        if settings.head_layer:
            head, head_config = export.load_head(model)
    size_px = encoder.input_shape[1] if encoder else settings.augment.crop.size_px
    files = _open_labeled(labeled, size_px)
    with _training("fine-tuning" if model else "supervised") as report:
        classifier = stages.train_classifier(
            settings,
            files,
            seed=config.seed,
            encoder_config=encoder_config,
            size_px=size_px or files.short_side_px,
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
    if test:
        held_out = _open_labeled(test, classifier.model.input_shape[1], classes=files.classes)
        scored = probes.classify(classifier.model, held_out)
        _print_accuracies([("finetune", probes.top_accuracies(scored.probabilities, scored.label), {})])
    click.echo(f"classifier: {output}")


@_command
@click.option("--teacher", required=True, metavar="DIR", help="What `finetune` or `distill` wrote.")
@_images
@click.option("--test", metavar="PATH", help="Images with labels that only score.")
@_output
def distill(config: MethodConfig, teacher: str, images: str, test: str | None, output: str) -> None:
    """Train a student on a teacher's predictions for images without labels.

    With distill.label_weight over 0 the labels of IMAGES count too: those in the teacher's class folders have one,
    those beside the folders have none. Goes on from its checkpoint if it was stopped.
    """
    from trainer import export, probes, stages

    taught_by, _, classes = export.load_classifier(teacher)
    files = _open(images, taught_by.input_shape[1])
    if config.distill.label_weight:
        words = f"distill.label_weight {config.distill.label_weight} makes the labels count (0 leaves them out): "
        _check_classes(files, images, classes=classes, words=words)
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
    if test:
        scored = probes.classify(distilled.model, _open_labeled(test, taught_by.input_shape[1], classes=classes))
        _print_accuracies([("distill", probes.top_accuracies(scored.probabilities, scored.label), {})])
    click.echo(f"classifier: {output}")


@_command
@_model
@_images
@click.option("--output", required=True, metavar="FILE", help="The Parquet file.")
def embed(config: MethodConfig, model: str, images: str, output: str) -> None:
    """Write h of every image to a Parquet file: key, label_index, embedding."""
    from trainer import embeddings, export

    encoder, _ = export.load_encoder(model)
    size_px = encoder.input_shape[1]
    n_rows = embeddings.write_parquet(encoder, _open(images, size_px), output, size_px=size_px)
    click.echo(f"{n_rows} embeddings: {output}")


@_command
@click.option("--model", required=True, metavar="DIR", help="What `pretrain`, `finetune` or `distill` wrote.")
@click.option(
    "--output",
    required=True,
    metavar="PATH",
    help="A file that ends in .safetensors or .npz for the weights alone, or the folder of a SavedModel.",
)
def export(config: MethodConfig, model: str, output: str) -> None:
    """Write an encoder or a classifier as a SavedModel that takes encoded images, or its weights as plain arrays."""
    from trainer import export, weights

    if Path(output).suffix in weights.SUFFIXES:
        weights.save({"": export.load_network(model)[0]}, output)
    else:
        export.save_for_serving(model, output)
    click.echo(f"exported: {output}")


@_command
@click.argument("name")
@click.option("--data", "images", required=True, metavar="PATH", help="Images to pretrain on.")
@click.option(
    "--labeled", metavar="PATH", help="Images with labels to learn from; those of --data if it is left out."
)
@_test
@click.option("--row", "rows", multiple=True, help="Only this row of the table. Repeatable.")
@click.option("--column", "columns", multiple=True, help="Only this column. Repeatable.")
@_output
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
    from trainer.ablations import printing, runner
    from trainer.ablations.bench import Bench, Images
    from trainer.ablations.tables import ABLATIONS

    if name not in ABLATIONS:
        raise ConfigError(f"{name!r} is no table: must be one of {', '.join(ABLATIONS)}")
    ablation = ABLATIONS[name]
    cells = _chosen(ablation.cells(config), rows, columns)
    bench = Bench(
        Images(unlabeled=images, labeled=labeled or images, test=test, open=_open),
        output=os.path.join(output, "trainings"),
        training=_training,
    )
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


def _open(path: str, size_px: int | None) -> "ExampleFiles":
    from trainer import sources

    if Path(path).is_dir():
        return sources.open_folder(path, short_side_px=size_px)
    return sources.open_examples([path])


def _open_labeled(path: str, size_px: int | None, *, classes: tuple[str, ...] = ()) -> "ExampleFiles":
    """Opens a folder of class folders; `classes`, where given, are the ones that it must have."""
    files = _open(path, size_px)
    _check_classes(files, path, classes=classes)
    return files


def _check_classes(files: "ExampleFiles", path: str, *, classes: tuple[str, ...], words: str = "") -> None:
    if not files.classes:
        raise ValueError(
            f"{words}{path} has no class folders: put the images of each class into a folder of its name"
        )
    if classes and files.classes != classes:
        differing = sorted(set(files.classes) ^ set(classes))
        raise ValueError(f"{words}{path} must have the class folders {list(classes)}; differing: {differing}")


def _print_accuracies(rows: list[tuple[str, dict[str, float], dict[str, float]]]) -> None:
    table = Table("", "top-1 %", "top-5 %", "settings")
    for name, accuracies, settings in rows:
        shown = ", ".join(f"{key} {value:g}" for key, value in settings.items())
        table.add_row(name, f"{100 * accuracies['top1']:.1f}", f"{100 * accuracies['top5']:.1f}", shown)
    _CONSOLE.print(table)


def _quiet() -> None:
    """TensorFlow's start-up noise off, oneDNN on: both are decided when it is imported."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _fail(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)
