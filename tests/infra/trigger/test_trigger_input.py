"""What comes in: what is refused, with which status, and that nothing of it does harm."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trigger_world import BUCKET, binary, finalized, structured

from infra.trigger import events
from infra.trigger.events import Event, MalformedError, NotOursError

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/new-data", 405),
        ("PUT", "/run", 405),
        ("POST", "/health", 405),
        ("POST", "/", 404),
        ("POST", "/new-data/", 404),
        ("POST", "//new-data", 404),
        ("POST", "/new-data/../run", 404),
        ("GET", "/.env", 404),
    ],
)
def test_other_paths_and_methods_are_not_there(world, service, method, path, status):
    answer = service(path, method=method)
    assert answer.status_code == status and answer.json
    assert world.vertex.calls == []


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/cloudevents-batch+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ],
)
def test_other_types_of_content_are_refused(world, tell, service, content_type):
    request = binary(finalized())
    request["headers"]["Content-Type"] = content_type
    assert service(**request).status_code == 415
    assert world.vertex.calls == []


@pytest.mark.parametrize("mode", [binary, structured])
def test_body_that_is_too_large_is_refused_and_one_that_just_fits_is_not(world, service, mode):
    fits = 64 * 1024 - len(mode(finalized(metadata=""))["data"])
    assert service(**mode(finalized(metadata="x" * (fits + 1)))).status_code == 413
    assert world.vertex.calls == []
    assert service(**mode(finalized(metadata="x" * fits))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"bucket": "\xc3\x28"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"9" * 60_000,
        json.dumps([finalized()]).encode(),
    ],
    ids=lambda body: body[:20],
)
@pytest.mark.parametrize("mime", ["application/json", "application/cloudevents+json"])
def test_body_that_is_no_object_of_json_is_refused(world, service, body, mime):
    headers = binary(finalized())["headers"] | {"Content-Type": mime}
    assert service(headers=headers, data=body).status_code == 400
    assert world.vertex.calls == []


@pytest.mark.parametrize("mode", [binary, structured])
@pytest.mark.parametrize(
    "attributes",
    [
        {"specversion": "0.3"},
        {"specversion": ""},
        {"id": ""},
        {"id": "x" * 1025},
        {"type": ""},
        {"source": ""},
        {"source": "//storage.googleapis.com/projects/_/buckets/other"},
        {"source": "//example.com"},
    ],
    ids=str,
)
def test_event_without_sound_attributes_is_refused(world, service, mode, attributes):
    assert service(**mode(finalized(), **attributes)).status_code == 400
    assert world.vertex.calls == []


@pytest.mark.parametrize("value", [7, None, [], {}, True])
def test_attributes_of_another_type_are_refused(service, value):
    for name in ("id", "source", "type", "specversion"):
        assert service(**structured(finalized(), **{name: value})).status_code == 400


@pytest.mark.parametrize("data", [None, "text", [], 7])
def test_event_with_other_data_is_refused(service, data):
    assert service(**structured(data)).status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": None},
        {"bucket": 7},
        {"bucket": [BUCKET]},
        {"name": None},
        {"name": 7},
        {"name": ["_SUCCESS"]},
        {"generation": None},
        {"generation": ""},
        {"generation": "seven"},
        {"generation": "-7"},
        {"generation": "0"},
        {"generation": "7.5"},
        {"generation": 7.5},
        {"generation": True},
        {"generation": "٧"},
        {"generation": "9" * 30},
        {"generation": [7]},
    ],
    ids=str,
)
def test_object_without_sound_fields_is_refused(world, tell, fields):
    source = f"//storage.googleapis.com/projects/_/buckets/{BUCKET}"
    assert tell(finalized() | fields, source=source).status_code == 400
    assert world.vertex.calls == []


# Were any of these refused, Pub/Sub would send them again for a day, each of an upload's thousand objects.
@pytest.mark.parametrize(
    "request_",
    [
        binary(finalized(bucket="another-bucket")),
        structured(finalized(bucket="another-bucket")),
        binary(finalized(), type="google.cloud.storage.object.v1.deleted"),
        binary(finalized(), type="google.cloud.audit.log.v1.written"),
        binary(finalized("../_SUCCESS")),
        binary(finalized("photos/../../_SUCCESS")),
        binary(finalized("./_SUCCESS")),
        binary(finalized("/_SUCCESS")),
        binary(finalized("photos//_SUCCESS")),
        binary(finalized("x" * 4000 + "/_SUCCESS")),
        binary(finalized("é" * 510 + "/_SUCCESS")),
        binary(finalized("photos\n/_SUCCESS")),
        binary(finalized("photos\x00/_SUCCESS")),
        binary(finalized("photos\x85/_SUCCESS")),
        binary(finalized("\ud800/_SUCCESS")),
        binary(finalized("x" * 4000)),
        binary(finalized("\ud800")),
    ],
)
def test_sound_event_of_what_starts_nothing_is_taken_and_never_sent_again(world, service, request_):
    answer = service(**request_)
    assert (answer.status_code, answer.data) == (204, b"")
    assert world.vertex.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS",
        "photos of 🐸 und Ähren/_SUCCESS",
        "..photos/_SUCCESS",
        "photos;rm -rf $HOME/_SUCCESS",
        "=cmd|' /C calc'!A0/_SUCCESS",
        "<script>alert(1)</script>/_SUCCESS",
        "gs://other/_SUCCESS".replace("//", "/"),
        "%2e%2e/_SUCCESS",
        'a" OR state="x/_SUCCESS',
        "x" * 1015 + "/_SUCCESS",
        "é" * 507 + "/_SUCCESS",
    ],
)
def test_name_that_cloud_storage_takes_is_a_name_and_nothing_else(world, tell, name, caplog):
    with caplog.at_level(logging.INFO):
        answer = tell(finalized(name))
    assert answer.json["status"] == "started"
    [request] = world.vertex.called("CreatePipelineJob")
    # Only a digest of it travels on.
    assert name not in str(request)
    [record] = [record for record in caplog.records if record.name == "infra.trigger"]
    assert record.fields["object"] == f"gs://{BUCKET}/{name}"


SOURCE = f"//storage.googleapis.com/projects/_/buckets/{BUCKET}"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()), is_binary=st.booleans())
def test_no_body_whatever_does_more_than_be_refused(body, is_binary):
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": SOURCE, "ce-type": events.FINALIZED}
    try:
        event = events.read(events.BINARY if is_binary else events.STRUCTURED, headers, body)
        marker = events.marker(event, bucket=BUCKET, name="_SUCCESS")
    except (MalformedError, NotOursError):
        return
    assert marker is None or marker.bucket == BUCKET


@settings(max_examples=50, deadline=None)
@given(
    bucket=st.just(BUCKET) | VALUES,
    name=st.text(max_size=20).map(lambda text: f"{text}/_SUCCESS") | VALUES,
    generation=st.integers(min_value=1, max_value=2**63).map(str) | VALUES,
)
def test_no_object_whatever_is_taken_for_a_marker_that_it_is_not(bucket, name, generation):
    event = Event("1", SOURCE, events.FINALIZED, {"bucket": bucket, "name": name, "generation": generation})
    try:
        marker = events.marker(event, bucket=BUCKET, name="_SUCCESS")
    except (MalformedError, NotOursError):
        return
    if marker is not None:
        assert (marker.bucket, marker.name, str(marker.generation)) == (BUCKET, name, str(generation).lstrip("0"))
        assert name.split("/")[-1] == "_SUCCESS" and not {"", ".", ".."} & set(name.split("/"))
