"""A whole tiny pipeline: what a run leaves, its rehearsal beside it, what a second run does again, and kills."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer import export

_ARMS = {"linear", "knn", "random", "finetune", "supervised"}
_NODES_FROM_PRETRAIN = {"Pretrain", "FineTune-50pct", "FineTune-100pct", "LinearEval", "Evaluator", "Push", "Report"}
_NODES_OF_THE_CLOUD = {"RunSummary"}


def test_whole_run_leaves_metrics_report_and_pushed_model(first_run):
    metrics = first_run.metrics
    assert {(row["arm"], row["label_fraction"]) for row in metrics["rows"]} == {
        (arm, fraction) for arm in _ARMS for fraction in (0.5, 1.0)
    }
    for row in metrics["rows"]:
        assert {"arm", "label_fraction", "n_labels", "top1", "top5", "n_test", "seed"} <= set(row)
        assert 0 <= row["top1"] <= row["top5"] <= 1
    for counts in metrics["ingest"].values():
        assert counts["read"] == counts["kept"] + counts["duplicate"] + counts["rejected"]
    assert metrics["ingest"]["unlabeled"]["kept"] == 72
    assert metrics["ingest"]["labeled"]["kept"] == 48
    assert metrics["blessed"] is True
    assert "Report" in {node["name"] for node in metrics["nodes"]}
    assert (first_run.output / "report.html").stat().st_size > 100_000
    assert metrics["pushed"] == str(first_run.output / "pushed" / "1")
    assert "report.html" in first_run.out


def test_unlabeled_images_of_another_size_are_pretrained_on_at_that_of_the_labelled_ones(first_run):
    (views,) = first_run.output.glob("artifacts/Pretrain/model_run/*/views.npz")
    shown = np.load(views)
    assert shown["original"].shape[1:] == (32, 32, 3) and shown["view_a"].shape[1:] == (16, 16, 3)
    (encoder,) = first_run.output.glob("artifacts/Pretrain/model/*/**/encoder.json")
    assert json.loads(encoder.read_text())["size_px"] == 16


def test_no_test_images_given_holds_out_a_hash_stable_share(first_run):
    n_test = {row["n_test"] for row in first_run.metrics["rows"]}
    assert len(n_test) == 1
    assert 0 < n_test.pop() < 24


def test_pushed_model_serves_encoded_bytes_without_our_code(first_run, sample_pngs, tmp_path):
    image = tmp_path / "image.png"
    image.write_bytes(sample_pngs["cat"][0])
    script = (
        "import sys, json, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "image = tf.constant([open(sys.argv[2], 'rb').read()] * 2)\n"
        "served = model.signatures['serving_default'](image_bytes=image)\n"
        "h = model.signatures['embed'](image_bytes=image)['embedding']\n"
        "assert not {'trainer', 'components', 'tensorflow_transform'} & set(sys.modules)\n"
        "print(json.dumps({'p': served['probabilities'].numpy().tolist(), 'h': h.shape.as_list()}))\n"
    )
    arguments = [sys.executable, "-c", script, first_run.metrics["pushed"], str(image)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [len(row) for row in answer["p"]] == [3, 3]
    assert all(abs(sum(row) - 1) < 1e-5 for row in answer["p"])
    assert answer["h"] == [2, 4]


def test_pushed_model_is_a_teacher_and_opens_for_the_trainers_commands(first_run, tmp_path):
    pushed = first_run.metrics["pushed"]
    teacher, _, classes = export.load_classifier(pushed)
    assert sorted(classes) == ["cat", "frog", "ship"]
    network, _ = export.load_network(pushed)
    assert all((a == b).all() for a, b in zip(network.get_weights(), teacher.get_weights(), strict=True))
    export.save_for_serving(pushed, str(tmp_path / "served"))
    signatures = tf.saved_model.load(str(tmp_path / "served")).signatures
    assert {"serving_default", "embed"} <= set(signatures)


@pytest.fixture(scope="module")
def rehearsed(cli, tmp_path_factory):
    finished = cli.rehearse(tmp_path_factory.mktemp("runs") / "rehearsed")
    assert finished.code == 0, finished.out + finished.err
    return finished


def _files(model: Path) -> set[str]:
    return {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}


def test_rehearsal_ends_with_the_numbers_of_the_local_run(first_run, rehearsed):
    for numbers in ("rows", "ingest", "blessed"):
        assert rehearsed.metrics[numbers] == first_run.metrics[numbers]


def test_rehearsal_pushes_the_model_of_the_local_run(first_run, rehearsed):
    ours, theirs = Path(rehearsed.metrics["pushed"]), Path(first_run.metrics["pushed"])
    assert (ours.name, _files(ours)) == (theirs.name, _files(theirs))
    checkpoints = [tf.train.load_checkpoint(str(model / "variables" / "variables")) for model in (ours, theirs)]
    shapes = [checkpoint.get_variable_to_shape_map() for checkpoint in checkpoints]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 10
    for name in shapes[0]:
        values = [checkpoint.get_tensor(name) for checkpoint in checkpoints]
        assert name == "_CHECKPOINTABLE_OBJECT_GRAPH" or (values[0] == values[1]).all(), name


def test_report_of_the_rehearsal_is_as_complete_as_that_of_the_local_run(first_run, rehearsed):
    pages = [(run.output / "report.html").read_text() for run in (first_run, rehearsed)]
    parts = [re.findall(r'<h[1-3][^>]*>(.*?)</h|<(?:div|section|figure)[^>]* id="([^"]+)"', page) for page in pages]
    assert parts[0] == parts[1]
    assert len(parts[0]) > 10
    nodes = [{node["name"] for node in run.metrics["nodes"]} for run in (first_run, rehearsed)]
    assert nodes[1] - nodes[0] == _NODES_OF_THE_CLOUD
    assert nodes[0] - nodes[1] == set()
    for name in nodes[0] - {"Report"}:  # it is written while the report is still running
        assert all(name in page for page in pages), name


def test_rehearsal_tells_of_each_node_and_of_what_it_leaves(rehearsed):
    for node in rehearsed.metrics["nodes"]:
        assert re.search(rf"\[ *\d+/24\] {node['name']} +started", rehearsed.out)
        assert re.search(rf"\[ *\d+/24\] {node['name']} +\d+\.\d s", rehearsed.out)
    assert "top-1 accuracy on the test images" in rehearsed.out
    assert f"report: {rehearsed.output / 'report.html'}" in rehearsed.out


def test_exit_handler_says_that_the_run_succeeded_and_what_came_of_it(rehearsed):
    [file] = (rehearsed.output / "buckets").glob("*/*/summaries/*.json")
    summary = json.loads(file.read_text())
    assert (summary["succeeded"], summary["failed"], summary["unread"]) == (True, [], [])
    assert {node["name"] for node in summary["nodes"]} == {
        node["name"] for node in rehearsed.metrics["nodes"]
    } - _NODES_OF_THE_CLOUD
    accuracies = [(row["arm"], row["label_fraction"], row["top1"]) for row in summary["results"]["accuracies"]]
    assert accuracies == [(row["arm"], row["label_fraction"], row["top1"]) for row in rehearsed.metrics["rows"]]
    assert summary["links"]["pushed"] == rehearsed.metrics["pushed"]
    assert summary["seconds"] > max(node["seconds"] or 0 for node in summary["nodes"])


def test_pretraining_of_the_rehearsal_ran_in_a_custom_job_by_its_worker_pools_command(rehearsed):
    log = (rehearsed.output / "logs" / "Pretrain.log").read_text()
    [told] = re.findall("^CustomJob here: (.*)$", log, flags=re.MULTILINE)
    [pool] = json.loads(told)["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "n1-highmem-8"}
    container = pool["containerSpec"]
    assert container["command"][:3] == ["python", "-m", "tfx.scripts.run_executor"]
    assert "tfx.components.trainer.executor.GenericExecutor" in container["command"] + container.get("args", [])


def test_pipeline_that_would_not_run_is_refused_before_anything_starts(cli, tmp_path):
    refused = cli.rehearse(tmp_path / "refused", "--set", "beam.runner=dataflow")
    assert refused.code == 2
    assert "ImageExampleGen" in refused.err and "Dataflow" in refused.err
    assert "started" not in refused.out


def test_nothing_changed_uses_the_cache_for_every_node(cli, first_run):
    again = cli.run(first_run.output)
    assert again.code == 0, again.err
    assert again.executed == []
    assert again.out.count("cached") == len(again.metrics["nodes"])
    assert again.metrics["rows"] == first_run.metrics["rows"]


def test_pushed_folder_removed_is_filled_again(cli, first_run):
    shutil.rmtree(first_run.output / "pushed")
    again = cli.run(first_run.output)
    assert again.executed == ["Push", "Report"]
    assert (first_run.output / "pushed" / "1" / "saved_model.pb").exists()


def test_evaluator_agrees_with_the_trainer_and_slices_by_class(first_run):
    import tensorflow_model_analysis as tfma

    [evaluation] = (first_run.output / "artifacts" / "Evaluator" / "evaluation").iterdir()
    sliced = dict(tfma.load_eval_result(str(evaluation)).get_metrics_for_all_slices())
    finetuned = next(r for r in first_run.metrics["rows"] if (r["arm"], r["label_fraction"]) == ("finetune", 1.0))
    assert sliced[()]["top1"]["doubleValue"] == pytest.approx(finetuned["top1"])
    assert sliced[()]["top5"]["doubleValue"] == pytest.approx(finetuned["top5"])
    assert {name for ((_, name),) in filter(None, sliced)} <= {"cat", "ship", "frog"}
    assert len(sliced) > 1


def _newest_decision(run) -> dict[str, Any]:
    decisions = (run.output / "artifacts" / "Push" / "pushed_model").glob("*/decision.json")
    return json.loads(max(decisions, key=lambda path: int(path.parent.name)).read_text())


def test_gate_at_the_accuracy_over_all_images_lets_pass_whatever_the_weakest_class(cli, first_run):
    finetuned = next(r for r in first_run.metrics["rows"] if (r["arm"], r["label_fraction"]) == ("finetune", 1.0))
    gated = cli.run(first_run.output, "--set", f"gate.min_top1={finetuned['top1']}", "--to", "Push")
    assert gated.code == 0, gated.err
    decision = _newest_decision(first_run)
    assert decision["blessed"] is True
    assert decision["pushed"] is not None


def test_other_temperature_runs_again_from_pretrain_on_and_a_gate_out_of_reach_keeps_the_pushed_model(cli, first_run):
    pushed = _files(first_run.output / "pushed")
    changed = cli.run(first_run.output, "--set", "pretrain.temperature=0.3", "--set", "gate.min_top1=1")
    assert changed.code == 4, changed.err
    assert "the model was not pushed: " in changed.err
    assert set(changed.executed) == _NODES_FROM_PRETRAIN
    assert changed.metrics["blessed"] is False
    assert changed.metrics["pushed"] is None
    assert _newest_decision(first_run)["pushed"] is None
    assert _files(first_run.output / "pushed") == pushed


def test_part_of_the_pipeline_runs_only_the_named_nodes(cli, first_run):
    part = cli.run(first_run.output, "--from", "LinearEval", "--to", "LinearEval")
    assert part.code == 0, part.err
    assert "LinearEval" in part.out
    assert "Pretrain" not in part.out


def test_class_unseen_in_training_stops_the_run_and_names_it(cli, class_folders, sample_pngs, tmp_path):
    test = tmp_path / "test"
    for label, number in (("cat", 20), ("ship", 20), ("zebra", 21)):
        (test / label).mkdir(parents=True)
        (test / label / "a.png").write_bytes(sample_pngs.get(label, sample_pngs["frog"])[number])
    refused = cli.run(tmp_path / "run", "--test", str(test))
    assert refused.code == 3
    assert "AnomalyGate-labeled failed" in refused.err
    assert "zebra" in refused.err
    assert "Traceback" not in refused.err


def test_labels_missing_stops_the_run_and_says_how_to_give_them(cli, flat_folder, tmp_path):
    refused = cli.run(tmp_path / "run", "--labeled", str(flat_folder))
    assert refused.code == 3
    assert "manifest" in refused.err
    assert "Traceback" not in refused.err


# Behind all tests that look at what is cached, since the nodes after it will run again.
def test_artifact_removed_under_a_cached_node_is_made_again(cli, first_run):
    shutil.rmtree(first_run.output / "artifacts" / "StatisticsGen-labeled")
    again = cli.run(first_run.output, "--to", "StatisticsGen-labeled")
    assert again.code == 0, again.err
    assert "ImageExampleGen-labeled cached" in again.out
    assert "StatisticsGen-labeled cached" not in again.out


@pytest.fixture(autouse=True)
def _leave_no_large_files(tmp_path):
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
