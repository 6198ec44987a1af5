"""The benchmark's own side on tiny sizes: every run is made, and every row is there. No figure is judged."""

import io

import pytest
from rich.console import Console
from tf_keras import layers

from benchmarks import limits, ours, processes, sections, tables
from benchmarks.__main__ import print_section
from benchmarks.limits import Machine, Needs
from benchmarks.sections import LIGHTLY, Case, Run
from trainer import heads, resnet
from trainer.config import HeadConfig
from trainer.config.presets import encoder_of_depth


def in_this_process(run, cores):
    if run.side == "theirs":
        raise processes.SkippedError(processes.NOT_INSTALLED)
    return ours.TASKS[run.task](**run.settings)


@pytest.mark.parametrize(
    "name, expected",
    [
        # Each of these compiles views or steps of its own for twenty seconds and more.
        pytest.param("augmentation", ["ours", "lightly"] * 2, marks=pytest.mark.slow),
        pytest.param("step", ["ours", "lightly"], marks=pytest.mark.slow),
        pytest.param("memory", ["chunks of 64"], marks=pytest.mark.slow),
        ("input", ["ours, decoded each epoch", "lightly"]),
        ("loss", ["ours, whole", "ours, blocks of 512", "naive", "lightly"]),
    ],
)
def test_every_run_of_a_section_is_a_row_with_a_time_or_the_reason_why_not(name, expected):
    console = Console(file=io.StringIO(), width=200)
    print_section(name, console, rounds=1, quick=True, start=in_this_process)
    lines = [line.split("│")[2:4] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    assert [run.strip() for run, _ in lines] == expected
    for run, shown in lines:
        if run.strip() == LIGHTLY:
            assert shown.strip() == processes.NOT_INSTALLED
        else:
            assert float(shown) > 0


def test_process_of_its_own_returns_what_the_task_does():
    figures = processes.in_new_process(Run("whole", "ours", "loss", {"rows": 8, "dim": 2}), 1)
    assert set(figures) == {"seconds", "mib"} and figures["seconds"] > 0


def test_process_that_fails_is_named():
    with pytest.raises(RuntimeError, match=r"odd ended with code 1(?s:.)*KeyError: 'no such task'"):
        processes.in_new_process(Run("odd", "ours", "no such task", {}), 1)


def test_environment_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(processes._PYTHONS, "theirs", tmp_path / "python")
    with pytest.raises(processes.SkippedError, match="make bench"):
        processes.in_new_process(Run(LIGHTLY, "theirs", "loss", {}), 1)


CASE = Case("B 4", 4, Needs(flop=8e9, bytes=1e9), tuple(Run(n, "ours", n, {}) for n in ("ours", LIGHTLY)), cores=1)


def test_sides_take_turns_and_the_second_round_goes_backwards():
    started = []

    def start(run, cores):
        started.append(run.name)
        return {"seconds": len(started)}

    found = processes.take_turns(CASE, rounds=3, start=start)
    assert started == ["ours", LIGHTLY, LIGHTLY, "ours", "ours", LIGHTLY]
    assert [figures["seconds"] for figures in found["ours"]] == [1, 4, 5]


def test_memory_is_measured_once_however_many_rounds_are_asked_for():
    started = []

    def start(run, cores):
        started.append(run.task)
        return {"flop_per_s": 1.0, "bytes_per_s": 1.0} if run.task == "machine" else {"seconds": 1.0}

    print_section("memory", Console(file=io.StringIO()), rounds=3, quick=True, start=start)
    assert started == ["machine", "cached"]


def test_row_shows_medians_spreads_ratios_within_rounds_and_both_limits():
    found = {
        "ours": [{"seconds": seconds} for seconds in (1.0, 2.0, 40.0)],
        LIGHTLY: [{"seconds": seconds} for seconds in (3.0, 2.0, 80.0)],
    }
    (name, ours_row), (no_name, their_row) = tables.rows(CASE, found, Machine(flop_per_s=4e9, bytes_per_s=1e10))
    assert (name, no_name) == ("B 4", "")
    assert ours_row[:6] == ["ours", "2,000 (1,000–40,000)", "2 (0.1–4)", "2 x (1–3)", "2,000", "100"]
    assert their_row[3] == ""


def test_needs_of_a_step_are_those_of_the_network():
    """Against the layers of the encoder and the head themselves: six operations a weight and place, both views."""
    config = encoder_of_depth(18, cifar_stem=True)
    encoder = resnet.build_encoder(config, size_px=32, seed=0)
    head = heads.projection_head(HeadConfig(), input_dim=512, seed=0)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    flop = sum(6 * layer.kernel.shape.num_elements() * layer.output_shape[1] ** 2 for layer in convolutions)
    flop += sum(6 * layer.kernel.shape.num_elements() for layer in head.layers if isinstance(layer, layers.Dense))
    stem = 2 * convolutions[0].kernel.shape.num_elements() * 32**2  # whose input needs no gradient
    needs = limits.training_step(batch=5, stage_blocks=[2] * 4, width=64, size_px=32, precision="float32")
    assert needs.flop == 2 * 5 * (flop - stem)
    half = limits.training_step(batch=5, stage_blocks=[2] * 4, width=64, size_px=32, precision="mixed_bfloat16")
    assert half == Needs(needs.flop, needs.bytes / 2)


def test_precision_that_the_processor_lacks_gets_a_batch_that_ends(monkeypatch):
    monkeypatch.setattr(sections, "_cpu_flags", lambda: ["avx2"])
    assert [case.images for case in sections.step().cases] == [64, 256, 8]
    monkeypatch.setattr(sections, "_cpu_flags", lambda: ["avx2", "avx512_bf16"])
    assert [case.images for case in sections.step().cases] == [64, 256, 64, 256]
