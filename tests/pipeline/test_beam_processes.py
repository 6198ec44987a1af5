"""Beam's worker processes: as many as asked for, light, able to import what they left out, heard when they fail."""

import importlib
import json
import os
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.runners.beam_processes import ProcessesRunner, beam_pipeline_args

_LEFT_OUT = ("apache_beam.io.gcp.bigquery", "pandas")


@pytest.fixture(autouse=True)
def _workers_find_this_module(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def _run(function, *elements):
    with beam.Pipeline(options=PipelineOptions(beam_pipeline_args(2))) as pipeline:
        _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.Map(function)


def _look(path):
    heavy = [name for name in (*_LEFT_OUT, "IPython", "google.cloud.bigquery") if name in sys.modules]
    late = [importlib.import_module(name).__name__ for name in _LEFT_OUT]
    Path(path).write_text(json.dumps({"process": os.getpid(), "heavy": heavy, "late": late}))


def _fail(number):
    raise ValueError(f"no {number}")


def test_two_workers_are_two_light_processes_that_find_what_they_left_out(tmp_path):
    _run(_look, *(str(tmp_path / str(number)) for number in range(2)))
    seen = [json.loads(path.read_text()) for path in tmp_path.iterdir()]
    assert len({look["process"] for look in seen} - {os.getpid()}) == 2
    assert [look["heavy"] for look in seen] == [[], []]
    assert all(look["late"] == list(_LEFT_OUT) for look in seen)


def test_what_fails_in_a_worker_fails_the_run():
    with pytest.raises(RuntimeError, match="no 7"):
        _run(_fail, 7)


@pytest.mark.parametrize(("workers", "runner"), [(1, FnApiRunner), (3, ProcessesRunner)])
def test_one_worker_is_this_process_and_more_are_others(workers, runner):
    options = PipelineOptions(beam_pipeline_args(workers))
    assert type(beam.Pipeline(options=options).runner) is runner
    assert options.get_all_options()["direct_num_workers"] == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_stage_on_this_machine_packs_no_tfx_for_others(workers, monkeypatch):
    # Here, for the workers of the other tests import this module.
    from tfx.components.statistics_gen.executor import Executor
    from tfx.utils import dependency_utils

    packed = []
    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", lambda: packed.append(1) or "tfx.tar.gz")
    Executor(Executor.Context(beam_pipeline_args=["--direct_num_workers=1"]))
    assert packed == [1]
    Executor(Executor.Context(beam_pipeline_args=beam_pipeline_args(workers)))
    assert packed == [1]
