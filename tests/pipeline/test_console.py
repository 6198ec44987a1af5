import io
import logging
import subprocess
import sys

import pytest
from rich.console import Console

from pipeline.runners.console import ProgressHandler, accuracy_table, closing_line
from trainer.loop import Progress


def emit(handler: ProgressHandler, step: int, total: int, stage: str = "pretraining") -> None:
    record = logging.LogRecord("simclr.progress", logging.INFO, "", 0, f"{stage}: step {step} of {total}", (), None)
    record.stage = stage
    record.progress = Progress(step, total, {"loss": 1.0}, 100.0)
    handler.emit(record)


def test_without_a_terminal_a_stage_prints_ten_lines():
    out = io.StringIO()
    handler = ProgressHandler(Console(file=out, width=120))
    for step in range(1, 1001):
        emit(handler, step, 1000)
    lines = out.getvalue().strip().splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith("step 1000 of 1000")


def test_on_a_terminal_a_bar_shows_loss_speed_and_time_left():
    out = io.StringIO()
    handler = ProgressHandler(Console(file=out, width=140, force_terminal=True))
    emit(handler, 10, 100)
    emit(handler, 50, 100)
    handler.finish()
    shown = out.getvalue()
    assert "50/100 steps" in shown
    assert "loss 1.000" in shown
    assert "100 images/s" in shown
    assert "left" in shown


def test_record_without_progress_is_ignored():
    out = io.StringIO()
    ProgressHandler(Console(file=out)).emit(logging.LogRecord("x", logging.INFO, "", 0, "words", (), None))
    assert out.getvalue() == ""


@pytest.mark.parametrize("on_terminal", [False, True])
def test_warning_is_shown_beside_the_progress(on_terminal):
    out = io.StringIO()
    handler = ProgressHandler(Console(file=out, width=140, force_terminal=on_terminal, color_system=None))
    emit(handler, 10, 100)
    handler.emit(logging.LogRecord("trainer.watching", logging.WARNING, "", 0, "it [has] collapsed", (), None))
    emit(handler, 20, 100)
    assert handler.finish() == ("" if on_terminal else "\n        ")
    assert "warning: it [has] collapsed" in out.getvalue()


def test_table_has_a_row_for_each_arm_and_a_column_for_each_fraction():
    rows = [
        {"arm": "linear", "label_fraction": 0.01, "n_labels": 40, "top1": 0.5},
        {"arm": "random", "label_fraction": 0.01, "n_labels": 40, "top1": 0.25},
        {"arm": "linear", "label_fraction": 0.1, "n_labels": 400, "top1": 0.625},
        {"arm": "distill", "label_fraction": 0.1, "n_labels": 400, "top1": 0.875},
    ]
    out = io.StringIO()
    Console(file=out, width=120).print(accuracy_table(rows))
    text = out.getvalue()
    assert "62.5" in text
    assert "25.0" in text
    assert "1% of the labels (40)" in text and "10% of the labels (400)" in text
    assert "87.5" in text


def test_closing_line_tells_learning_from_everything_else():
    seconds = {
        "ImageExampleGen-labeled": 9.0,
        "Pretrain": 336.4,
        "FineTune-1pct": 20.0,
        "Distill-1pct": 6.0,
        "Evaluator": 9.0,
        "Push": 5.0,
    }
    line = closing_line(seconds, total_s=430.0, peak_bytes=2_040_000_000)
    assert line == (
        "took 7 min 10 s: 6 min 11 s of training and evaluation, 59 s of everything else; peak memory 2.04 GB"
    )


def test_noise_goes_to_the_log_and_words_to_the_terminal(tmp_path):
    script = (
        "import os, sys\n"
        "from pipeline.runners.console import divert_noise\n"
        f"terminal = divert_noise({str(tmp_path / 'log')!r})\n"
        "terminal.out.print('hello')\n"
        "terminal.err.print('oh no')\n"
        "os.write(1, b'noise one\\n'); os.write(2, b'noise two\\n'); print('noise three')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
    assert done.stderr == "oh no\n"
    log = (tmp_path / "log").read_text()
    assert all(noise in log for noise in ("noise one", "noise two", "noise three"))
