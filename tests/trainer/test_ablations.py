"""The tables end to end as a user starts them, tiny: every kind of cell trains, stays, and is measured again."""

import io
import json
from contextlib import contextmanager

import click.testing
import numpy as np
import pytest
import tensorflow as tf
from example_files import class_images, write_examples
from PIL import Image
from rich.console import Console

from trainer import cli, console, data
from trainer.ablations import printing, properties, runner
from trainer.ablations.bench import Bench, Images
from trainer.ablations.tables import ABLATIONS
from trainer.config import PRESETS, MethodConfig

TINY = {
    "pretrain.encoder.stage_blocks": [1],
    "pretrain.encoder.width": 4,
    "pretrain.batch_size": 12,
    "pretrain.epochs": 1,
    "pretrain.diagnostics.every_steps": 0,
    "finetune.steps": 1,
    "finetune.batch_size": 4,
    "supervised.steps": 1,
    "supervised.batch_size": 4,
    "distill.student.stage_blocks": [1],
    "distill.student.width": 2,
    "distill.epochs": 1,
    "probe.inverse_regularization": [1.0],
}
CROPS = {"pretrain.augment.jitter_strength": 0.0, "pretrain.augment.grayscale_probability": 0.0}
TABLES_OF_VIEWS = ("color", "composition")  # the other tables train their cells on crops, which are made faster
ROWS = {
    name: list(dict.fromkeys(cell.row for cell in ablation.cells(MethodConfig())))
    for name, ablation in ABLATIONS.items()
    if name in ("labels", "distillation")
}
SWITCHES = dict.fromkeys(["TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"])


@pytest.fixture(autouse=True, scope="module")
def eager():
    """Without graphs and XLA, which would take longer than these trainings of one or two steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 12), ("test", 8)):
        for index, image in enumerate(class_images([0, 1] * (count // 2), seed=count)):
            path = root / split / ("cat", "dog")[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder whose trainings the tables have in common, as a user's would."""
    return tmp_path_factory.mktemp("ablations")


def ablate(name, folders, output, *, only=(), settings=(), code=0):
    """Runs a table, or its cells in some `(row, column)`; returns what is printed and the cells' files."""
    views = {} if name in TABLES_OF_VIEWS else CROPS
    options = [f"{field}={json.dumps(value)}" for field, value in (TINY | views | dict(settings)).items()]
    arguments = [name, "--data", f"{folders}/train", "--test", f"{folders}/test", "--output", str(output)]
    for option, values in zip(("--row", "--column"), zip(*only, strict=True), strict=False):
        arguments += [argument for value in dict.fromkeys(values) for argument in (option, value)]
    arguments += [argument for option in options for argument in ("--set", option)]
    result = click.testing.CliRunner(env=SWITCHES | {"COLUMNS": "200"}).invoke(cli.main, ["ablate", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    folder = output / name
    return result.output, {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize(
    ("name", "only", "n_cells"),
    [
        ("color", [("SimCLR", "1 + blur")], 1),
        ("color", [("supervised", "AutoAugment")], 1),
        ("composition", [("crop", "color")], 1),
        ("composition", [("sobel", "noise")], 1),
        ("composition", [("cutout", "rotate")], 1),
        ("head", [("none", "width of h")], 1),
        ("layers", [], 8),
        ("batch", [("batch 6", "1 epochs")], 1),
        ("temperature", [("τ 0.05", "linear top-1")], 1),
        ("labels", [(row, "10%") for row in ROWS["labels"]], 5),
        ("distillation", [(row, "10%") for row in ROWS["distillation"]], 4),
    ],
)
def test_every_table_trains_and_prints_its_cells(folders, shared, name, only, n_cells):
    before = {path.name for path in shared.glob(f"{name}/*")}
    printed, cells = ablate(name, folders, shared, only=only)
    new = [cells[file] for file in cells.keys() - before]
    assert printed.count(": measuring") == len(new) == n_cells
    for cell in new:
        assert 0 <= cell["measured"]["top1"] <= 1 and f"{100 * cell['measured']['top1']:.1f} / " in printed
    assert ABLATIONS[name].title in printed and "published:" in printed


TWO_CELLS = [("linear", "32"), ("nonlinear", "32")]


@pytest.fixture(scope="module")
def measured(folders, tmp_path_factory):
    output = tmp_path_factory.mktemp("measured")
    return output, *ablate("head", folders, output, only=TWO_CELLS)


def test_measured_cells_are_taken_from_their_files(folders, measured, monkeypatch):
    output, printed, cells = measured
    monkeypatch.setattr(runner, "_write", None)  # nothing is measured, so nothing is written
    free = {"pretrain.checkpoint_every_steps": 7, "pretrain.diagnostics.images": 9, "finetune.steps": 2}
    again, same = ablate("head", folders, output, only=TWO_CELLS, settings=free)
    assert again.count(": measured before") == 2 and same == cells
    assert again[again.index("projection head") :] == printed[printed.index("projection head") :]


def test_cell_whose_settings_have_changed_is_measured_again_in_words(folders, measured):
    output, _, cells = measured
    changed = {"probe.inverse_regularization": [0.01]}
    printed, others = ablate("head", folders, output, only=TWO_CELLS[:1], settings=changed)
    assert "linear, 32: measured again, since its settings have changed" in printed
    assert "probe.inverse_regularization was [1.0], is [0.01]" in printed
    (name,) = (name for name in others if others[name] != cells[name])
    assert name == "linear--32.json" and others[name]["measured"]["C"] == 0.01
    back, _ = ablate("head", folders, output, only=TWO_CELLS)
    assert back.count("measured again") == back.count("measured before") == 1


def test_cell_of_other_images_is_measured_again(folders, measured, tmp_path):
    output, _, _ = measured
    other = tmp_path / "images"
    for path in folders.rglob("*.png"):
        target = other / path.relative_to(folders)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    moved, _ = ablate("head", other, output, only=TWO_CELLS[1:])
    assert "measured before" in moved, "the same images in another place are the same"
    (other / "test" / "cat" / "0.png").rename(other / "test" / "dog" / "0.png")
    printed, _ = ablate("head", other, output, only=TWO_CELLS[1:])
    assert "images.test.examples was" in printed and "images.unlabeled" not in printed


class SigtermAt:
    """Sends SIGTERM to this process at the first report of a training, counted from 1."""

    def __init__(self, send_sigterm, *, training):
        self._send_sigterm, self._training = send_sigterm, training
        self.seen = []

    @contextmanager
    def progress(self, stage, _):
        steps = []
        self.seen.append((stage, steps))

        def report(progress):
            steps.append(progress.step)
            if len(self.seen) == self._training and len(steps) == 1:
                self._send_sigterm()

        yield report


def test_stopped_table_goes_on_in_the_cell_it_was_in(folders, tmp_path, monkeypatch, send_sigterm):
    settings = {"pretrain.epochs": 3}
    _, whole = ablate("head", folders, tmp_path / "whole", only=TWO_CELLS[1:], settings=settings)
    bar = SigtermAt(send_sigterm, training=3)  # of the second cell: the first one's pretraining and probe were before
    monkeypatch.setattr(console, "progress", bar.progress)
    stopped, cells = ablate("head", folders, tmp_path / "stopped", only=TWO_CELLS, settings=settings)
    assert "stopped by SIGTERM after step 1 of 3" in stopped and list(cells) == ["linear--32.json"]
    resumed, cells = ablate("head", folders, tmp_path / "stopped", only=TWO_CELLS, settings=settings)
    assert resumed.count("measured before") == resumed.count(": measuring") == 1
    trainings = [steps for stage, steps in bar.seen if stage == "pretraining"]
    assert trainings == [[1, 2, 3], [1], [2, 3]]
    for name in whole:
        assert cells[name]["measured"] == whole[name]["measured"]


def test_kill_while_a_result_is_written_leaves_none(folders, shared, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.tf.io.gfile, "rename", die)
        ablate("temperature", folders, shared, only=[("τ 0.1", "linear top-1")], code=130)
    printed, _ = ablate("temperature", folders, shared, only=[("τ 0.1", "linear top-1")])
    assert "τ 0.1, linear top-1: measuring" in printed


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ABLATIONS)
def test_table_of_every_preset_has_a_file_for_each_cell_and_a_cell_for_each_published_figure(preset, name):
    config = PRESETS[preset]()
    cells = ABLATIONS[name].cells(config)
    if name != "batch":  # whose cells are in proportion to the configured batch and epochs
        assert ABLATIONS[name].published(config).top1.keys() <= {(cell.row, cell.column) for cell in cells}
    assert len({runner._file_name(cell) for cell in cells}) == len(cells) > 0


def test_color_cells_have_the_strengths_of_their_columns():
    cells = {(cell.row, cell.column): cell.config for cell in ABLATIONS["color"].cells(MethodConfig())}
    for row, section in (("SimCLR", "pretrain"), ("supervised", "supervised")):
        views = [getattr(cells[row, column], section).augment for column in ("1/8", "1", "1 + blur", "AutoAugment")]
        assert [view.jitter_strength for view in views] == [0.125, 1, 1, 0]
        assert [view.blur_probability for view in views] == [0, 0, 0.5, 0]
        assert [view.policy for view in views] == ["simclr"] * 3 + ["autoaugment"]
    untouched = cells["SimCLR", "1"].supervised, cells["supervised", "1"].pretrain
    assert untouched == (MethodConfig().supervised, MethodConfig().pretrain)


@pytest.mark.parametrize("name", ["labels", "distillation"])
def test_cells_that_are_fine_tuned_have_the_settings_of_their_share_of_the_labels(name):
    config = PRESETS["imagenet_r50_v2"]()
    cells = ABLATIONS[name].cells(config)
    found = {(cell.column, cell.config.finetune.epochs, cell.config.finetune.head_layer) for cell in cells}
    assert found == {("1%", 60, 1), ("10%", 30, 1)} | ({("100%", 30, 0)} if name == "labels" else set())
    assert {cell.config.pretrain for cell in cells} == {config.pretrain}


def test_layers_cells_are_pretrained_with_what_is_told_apart_and_a_head_as_wide_as_h():
    cells = {(cell.row, cell.column): cell.config for cell in ABLATIONS["layers"].cells(PRESETS["imagenet_r50_v1"]())}
    added = ("rotate_probability", "noise_probability", "sobel_probability")
    seen = {place: [getattr(config.pretrain.augment, op) for op in added] for place, config in cells.items()}
    for layer in ("h", "g(h)"):
        assert [shares for (_, column), shares in seen.items() if column == layer] == [
            [0, 0, 0],
            [0.75, 0, 0],
            [0, 0.5, 0],
            [0, 0, 0.5],
        ]
    assert {config.pretrain.head.output_dim for config in cells.values()} == {2048}
    assert {config.pretrain.augment.jitter_strength for config in cells.values()} == {1.0}


def test_composition_cells_have_their_two_ops_and_no_other_on_one_view():
    cells = {
        (cell.row, cell.column): cell.config.pretrain.augment
        for cell in ABLATIONS["composition"].cells(MethodConfig())
    }
    assert len(cells) == 28 and all(view.one_sided for view in cells.values())
    off = {"jitter_strength", "grayscale_probability", "blur_probability", "rotate_probability"} | {
        "sobel_probability",
        "noise_probability",
        "cutout_probability",
    }
    on = {place: {name for name in off if getattr(view, name)} for place, view in cells.items()}
    assert on["crop", "crop"] == set() and on["crop", "cutout"] == {"cutout_probability"}
    assert on["color", "color"] == {"jitter_strength", "grayscale_probability"}
    assert on["sobel", "noise"] == {"sobel_probability", "noise_probability"}
    assert on["blur", "rotate"] == {"blur_probability", "rotate_probability"}
    assert {view.crop.probability for (row, _), view in cells.items() if row == "crop"} == {1}
    assert {view.crop.probability for (row, _), view in cells.items() if row != "crop"} == {0}


def test_records_cannot_be_joined_with_a_labelled_folder(folders, tmp_path):
    records = write_examples(tmp_path / "records", class_images([0, 1]))
    opened = {"records": records, "folder": data.open_folder(str(folders / "train"))}
    images = Images("records", "folder", "folder", open=lambda path, size_px: opened[path])
    bench = Bench(images, output=str(tmp_path), training=None)
    assert bench.unlabeled(MethodConfig()) is records
    with pytest.raises(ValueError, match="to be joined with labelled ones are records"):
        bench.partly_labeled(MethodConfig(), 0.5)


@pytest.fixture(scope="module")
def held_out(folders):
    return data.open_folder(str(folders / "test"))


def changed(files, change):
    batches, label = properties.changed_images(files, change, size_px=8, seed=0)
    (original,) = data.evaluation_batches(files, size_px=8).as_numpy_iterator()
    return np.concatenate(batches), label, original["image"]


def test_changed_images_are_turned_by_their_label(held_out):
    images, label, originals = changed(held_out, "rotation")
    assert label.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    for image, turn, original in zip(images, label, originals, strict=True):
        np.testing.assert_array_equal(np.rot90(image, -turn), original)


@pytest.mark.parametrize(
    ("change", "label"), [("gray", [1, 0, 0, 0, 0] * 2), ("noise", [1, 0] * 4), ("sobel", [1, 0] * 4)]
)
def test_changed_images_are_changed_where_their_label_says_so(held_out, change, label):
    images, found, originals = changed(held_out, change)
    assert found.tolist() == label[:8]
    is_same = np.isclose(images, originals, atol=1e-6).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(is_same, np.array(label[:8]) == 0)
    is_gray = np.isclose(images[..., :1], images, atol=1e-6).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(is_gray, (np.array(label[:8]) == 1) & (change != "noise"))


def test_table_shows_measured_beside_published_and_a_dash_where_there_is_none():
    ablation = ABLATIONS["labels"]
    cells = [cell for cell in ablation.cells(MethodConfig()) if cell.row in ("random", "finetune")]
    results = [
        runner.Result(cell, {"top1": 0.123}) for cell in cells if (cell.row, cell.column) != ("random", "100%")
    ]
    out = io.StringIO()
    Console(file=out, width=150).print(printing.table_of(ablation, results))
    lines = [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]
    assert "random 12.3 / – 12.3 / – –" in lines
    assert "finetune 12.3 / 57.9 12.3 / 68.4 12.3 / 76.3" in lines
    assert "arXiv 2006.10029" in out.getvalue() and "measured here / published" in out.getvalue()


SWITCHED_OFF = ("jitter_strength=0", "grayscale_probability=0")
AUTOAUGMENT = [
    word for setting in ("policy=autoaugment", *SWITCHED_OFF) for word in ("--set", f"pretrain.augment.{setting}")
]


@pytest.mark.parametrize(
    ("name", "options", "code", "message"),
    [
        ("colour", [], 2, "'colour' is no table: must be one of color, composition, head"),
        ("color", ["--row", "SimCLRv3"], 2, "row 'SimCLRv3': must be one of SimCLR, supervised"),
        ("color", ["--labeled", "{cats}"], 3, "must have the class folders of"),
        # Rotation, noise and Sobel are ops of the other policy.
        ("layers", AUTOAUGMENT, 2, "takes the place of rotate_probability 0.75"),
    ],
)
def test_mistake_is_told_before_anything_trains(folders, tmp_path, name, options, code, message):
    where = ["--data", f"{folders}/train", "--test", f"{folders}/test", "--output", str(tmp_path / "output")]
    cats = tmp_path / "cats" / "cat"
    cats.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(cats / "a.png")
    options = [option.format(cats=cats.parent) for option in options]
    result = click.testing.CliRunner(env=SWITCHES).invoke(cli.main, ["ablate", name, *where, *options])
    assert result.exit_code == code and message in result.output
    assert not (tmp_path / "output" / "trainings").exists()
