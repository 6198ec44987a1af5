"""The compiled pipeline beside the local run: the same numbers, the same pushed model, an equally complete report."""

import json
import re
from pathlib import Path

import pytest
import tensorflow as tf

_NODES_OF_THE_CLOUD = {"RunSummary"}


@pytest.fixture(scope="module")
def local(cli, tmp_path_factory):
    finished = cli.run(tmp_path_factory.mktemp("runs") / "local", "--set", "fractions=[1]")
    assert finished.code == 0, finished.out + finished.err
    return finished


@pytest.fixture(scope="module")
def rehearsed(cli, tmp_path_factory):
    finished = cli.rehearse(tmp_path_factory.mktemp("runs") / "rehearsed", "--set", "fractions=[1]")
    assert finished.code == 0, finished.out + finished.err
    return finished


def _files(model: Path) -> set[str]:
    return {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}


def test_rehearsal_ends_with_the_numbers_of_the_local_run(local, rehearsed):
    for numbers in ("rows", "ingest", "blessed"):
        assert rehearsed.metrics[numbers] == local.metrics[numbers]


def test_rehearsal_pushes_the_model_of_the_local_run(local, rehearsed):
    ours, theirs = Path(rehearsed.metrics["pushed"]), Path(local.metrics["pushed"])
    assert (ours.name, _files(ours)) == (theirs.name, _files(theirs))
    checkpoints = [tf.train.load_checkpoint(str(model / "variables" / "variables")) for model in (ours, theirs)]
    shapes = [checkpoint.get_variable_to_shape_map() for checkpoint in checkpoints]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 10
    for name in shapes[0]:
        values = [checkpoint.get_tensor(name) for checkpoint in checkpoints]
        assert name == "_CHECKPOINTABLE_OBJECT_GRAPH" or (values[0] == values[1]).all(), name


def test_report_of_the_rehearsal_is_as_complete_as_that_of_the_local_run(local, rehearsed):
    pages = [(run.output / "report.html").read_text() for run in (local, rehearsed)]
    parts = [re.findall(r'<h[1-3][^>]*>(.*?)</h|<(?:div|section|figure)[^>]* id="([^"]+)"', page) for page in pages]
    assert parts[0] == parts[1]
    assert len(parts[0]) > 10
    nodes = [{node["name"] for node in run.metrics["nodes"]} for run in (local, rehearsed)]
    assert nodes[1] - nodes[0] == _NODES_OF_THE_CLOUD
    assert nodes[0] - nodes[1] == set()
    for name in nodes[0] - {"Report"}:  # it is written while the report is still running
        assert all(name in page for page in pages), name


def test_rehearsal_tells_of_each_node_and_of_what_it_leaves(rehearsed):
    for node in rehearsed.metrics["nodes"]:
        assert re.search(rf"\[ *\d+/21\] {node['name']} +started", rehearsed.out)
        assert re.search(rf"\[ *\d+/21\] {node['name']} +\d+\.\d s", rehearsed.out)
    assert "top-1 accuracy on the test images" in rehearsed.out
    assert f"report: {rehearsed.output / 'report.html'}" in rehearsed.out


def test_exit_handler_says_that_the_run_succeeded(rehearsed):
    [summary] = (rehearsed.output / "buckets").glob("*/*/summaries/*.json")
    assert json.loads(summary.read_text())["succeeded"] is True


def test_pipeline_that_would_not_run_is_refused_before_anything_starts(cli, tmp_path):
    refused = cli.rehearse(tmp_path / "refused", "--set", "beam.runner=dataflow")
    assert refused.code == 2
    assert "ImageExampleGen" in refused.err and "Dataflow" in refused.err
    assert "started" not in refused.out
