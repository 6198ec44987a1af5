"""The comparison that the kills rely on: blind for when and where, and for nothing else that is looked at."""

import json

import contents
import pytest
from tensorflow.core.protobuf import saved_model_pb2

_LEAKAGE = {"test": 22, "training": {"labeled": 26, "unlabeled": 72}, "leaks": []}
_DECISION = {
    "pushed": "/a/run/pushed/1",
    "reason": "Pushed as version 1 at 2026-11-26 20:55 UTC",
    "candidate_top1": 0.5,
}
_SPANS = {"decision": {"new_images": 36}, "made": {"span": 2}, "window": [{"made": "2026-11-26T21:00:31+00:00"}]}


def _digest(tmp_path, name, told, output):
    path = tmp_path / name
    path.write_text(json.dumps(told) if name.endswith((".json", ".jsonl")) else told)
    return contents.digest(path, output)


@pytest.mark.parametrize(
    ("name", "told", "elsewhere", "otherwise"),
    [
        ("leakage.json", _LEAKAGE, {}, {"test": 21}),
        ("leakage.json", _LEAKAGE, {}, {"leaks": [{"key": "a"}]}),
        (
            "decision.json",
            _DECISION,
            {"pushed": "/b/run/pushed/1", "reason": "Already pushed as version 1 at 2027-01-02 00:01 UTC"},
            {"candidate_top1": 0.4},
        ),
        ("decision.json", _DECISION, {"pushed": "/b/run/pushed/1"}, {"pushed": "/b/run/pushed/2"}),
        ("HISTORY.jsonl", {"candidate": "e2f6", "event": "found"}, {"candidate": "e156"}, {"event": "promoted"}),
        ("record.json", {"candidate": "e2f6", "test_set": "4bb0"}, {"candidate": "e156"}, {"test_set": "4bb1"}),
        ("spans.json", _SPANS, {"made": None}, {"decision": {"new_images": 0}}),
        ("metrics.json", {"rows": [1], "spans": _SPANS}, {"spans": {**_SPANS, "made": None}}, {"spans": {}}),
        ("metrics.json", {"rows": [1], "spans": None}, {}, {"rows": [2]}),
        ("channels.json", {"channel_mean": [0.49088814]}, {"channel_mean": [0.49088817]}, {"channel_mean": [0.4908]}),
    ],
)
def test_json_is_the_same_elsewhere_and_later_and_else_is_not(tmp_path, name, told, elsewhere, otherwise):
    first = _digest(tmp_path, name, told, "/a/run")
    assert _digest(tmp_path, name, {**told, **elsewhere}, "/b/run" if elsewhere else "/a/run") == first
    assert _digest(tmp_path, name, {**told, **otherwise}, "/a/run") != first


def test_number_of_an_execution_in_a_path_is_no_difference_and_the_node_is(tmp_path):
    first = _digest(tmp_path, "eval_config.json", {"": "/a/run/artifacts/FineTune-100pct/model/18/Format"}, "/a/run")
    other = [f"/a/run/artifacts/{node}/model/42/Format" for node in ("FineTune-100pct", "FineTune-50pct")]
    assert [_digest(tmp_path, "eval_config.json", {"": path}, "/a/run") == first for path in other] == [True, False]


def test_card_of_another_accuracy_differs(tmp_path):
    card = "On all labels {} %, run started 2026-11-26 {} UTC"
    digests = [
        _digest(tmp_path, "model_card.md", card.format(*filled), "/a/run")
        for filled in ((36.4, "20:55"), (36.4, "20:57"), (36.5, "20:55"))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_graph_is_the_same_wherever_and_as_whichever_function_and_another_operation_is_not(tmp_path):
    def digest(function: str, operation: str, output: str) -> str:
        model = saved_model_pb2.SavedModel()
        graph = model.meta_graphs.add().graph_def
        graph.node.add(name=f"table_{output}/artifacts/labels", op=operation)
        graph.library.function.add().signature.name = function
        (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
        return contents.digest(tmp_path / "saved_model.pb", output)

    first = digest("__inference_embed_44453", "HashTableV2", "/a/run")
    assert digest("__inference_embed_44471", "HashTableV2", "/b/run") == first
    assert digest("__inference_embed_44453", "MutableHashTableV2", "/a/run") != first
