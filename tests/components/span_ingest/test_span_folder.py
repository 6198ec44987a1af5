"""A folder in a bucket, where an answer of the store breaks off; on an emulator it is in `tests/gcs`."""

import pytest
from google.cloud import storage
from requests.exceptions import JSONDecodeError

from components.span_ingest import folder


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")  # nobody is asked: there are no credentials
    monkeypatch.setattr(folder, "_FIRST_WAIT_S", 0.001)
    return folder.open_folder("gs://bucket/spans")


def test_copy_of_which_the_store_told_half_is_asked_for_again(bucket, monkeypatch):
    answers = iter([JSONDecodeError("Unterminated string", "{", 1), {"crc32c": "AAAABw=="}])

    def reload(blob):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        blob._set_properties(answer)

    monkeypatch.setattr(storage.Blob, "rewrite", lambda *_, **__: (None, 1, 1))
    monkeypatch.setattr(storage.Blob, "reload", reload)
    assert bucket.copy_out("shard", "gs://bucket/run/shard") == 7
