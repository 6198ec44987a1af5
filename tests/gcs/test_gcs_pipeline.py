"""The whole tiny pipeline with sources, artifacts, checkpoints and pushed models on gs://."""

import json

import pytest

pytestmark = pytest.mark.slow

_BUCKET = "pipeline"
_IMAGES = 16  # labelled ones of a class
_TIMEOUT_S = 900


@pytest.fixture(scope="module")
def ran(object_store, sample_pngs):
    bucket = object_store.client.create_bucket(_BUCKET)
    for label, pngs in sample_pngs.items():
        for number, png in enumerate(pngs):
            folder = f"labeled/{label}" if number < _IMAGES else "unlabeled"
            bucket.blob(f"{folder}/{label}{number}.png").upload_from_string(png)
    return object_store.run(f"gs://{_BUCKET}", "run_pipeline", timeout_s=_TIMEOUT_S)


def _named(object_store, end):
    return [name for name in object_store.names(_BUCKET, "artifacts/") if name.endswith(end)]


def test_pipeline_on_the_store_ends_with_a_report_and_a_pushed_model(ran, object_store):
    (report,) = _named(object_store, "/report.html")
    assert len(object_store.read(_BUCKET, report)) > 100_000
    (metrics,) = _named(object_store, "/metrics.json")
    found = json.loads(object_store.read(_BUCKET, metrics))
    assert {row["arm"] for row in found["rows"]} == {"linear", "knn", "random", "finetune", "supervised"}
    assert found["ingest"]["unlabeled"]["kept"] == 72
    assert found["pushed"] == f"gs://{_BUCKET}/pushed/1"
    assert "pushed/1/saved_model.pb" in object_store.names(_BUCKET, "pushed/")


def test_pipeline_keeps_the_checkpoints_of_its_trainings_on_the_store(ran, object_store):
    assert any(name.endswith(".index") for name in object_store.names(_BUCKET, "checkpoints/"))
