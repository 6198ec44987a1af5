"""Who may call: tokens of a key pair of our own, whose public half an issuer on loopback tells."""

import base64
import hmac
import json
import logging
import time

import pytest
from cryptography.hazmat.primitives import serialization
from trigger_world import AUDIENCE, ENVIRONMENT, binary, finalized, key, removed, structured, token

MINUTE = 60
MARKER = binary(finalized())


@pytest.fixture
def knock(service):
    """Tells of a marker with this in the place of the usual token; returns the status."""
    return lambda value, **headers: (
        service(data=MARKER["data"], authorization=value, headers=MARKER["headers"] | headers).status_code
    )


def now():
    return int(time.time())


@pytest.mark.parametrize(
    "audience",
    [
        AUDIENCE,
        f"{AUDIENCE}/",
        f"{AUDIENCE}/new-data",
        f"{AUDIENCE}/run",
        f"{AUDIENCE}/new-data?__GCP_CloudEventsMode=GCS_NOTIFICATION",
        "https://simclr-trigger-123456789012.us-central1.run.app",
        "https://simclr-trigger-123456789012.us-central1.run.app/new-data",
    ],
)
def test_token_for_any_of_the_services_addresses_counts(knock, audience):
    assert knock(f"Bearer {token(aud=audience)}") == 200


@pytest.mark.parametrize("path", ["/new-data", "/run"])
def test_without_a_token_nothing_is_read_and_nothing_starts(world, service, path):
    answer = service(path, authorization=None, data=b"{" * 10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (world.key_requests, world.vertex.calls) == (0, [])


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic dXNlcjpwYXNz",
        f"Token {token()}",
        token(),
        "Bearer \x7f..",
    ],
)
def test_what_is_no_token_is_refused(world, knock, value):
    assert knock(value) == 401
    assert world.vertex.calls == []


def encoded(content):
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def with_algorithm(name):
    return f"{encoded(json.dumps({'alg': name, 'kid': 'google'}).encode())}.{token().split('.')[1]}"


def unsigned():
    return f"{with_algorithm('none')}."


def signed_with_the_public_key():
    """The old trick: the public key, which everybody has, as the secret of a symmetric algorithm."""
    public = (
        key("google")
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signed = with_algorithm("HS256")
    return f"{signed}.{encoded(hmac.digest(public, signed.encode(), 'sha256'))}"


FORGED = {
    "expired": lambda: token(iat=now() - 120 * MINUTE, exp=now() - MINUTE),
    "not yet": lambda: token(iat=now() + 5 * MINUTE),
    "not before": lambda: token(nbf=now() + 5 * MINUTE),
    "another key, Google's name for it": lambda: token(signed_with="mallory"),
    "another key, unknown": lambda: token(signed_with="mallory", key_id="mallory"),
    "no key": lambda: token(key_id=None),
    "another issuer": lambda: token(iss="https://accounts.example.com"),
    "no issuer": lambda: token(iss=None),
    "never expires": lambda: token(exp=None),
    "no account": lambda: token(email=None),
    "no audience": lambda: token(aud=None),
    "another service": lambda: token(aud="https://other-a1b2c3d4e5-uc.a.run.app"),
    "a service of a longer name": lambda: token(aud="https://simclr-trigger-two-a1b2c3d4e5-uc.a.run.app"),
    "another domain": lambda: token(aud=f"{AUDIENCE}.example.com"),
    "another project": lambda: token(aud="https://simclr-trigger-999.us-central1.run.app"),
    "another region": lambda: token(aud="https://simclr-trigger-123456789012.europe-west4.run.app"),
    "another host behind ours": lambda: token(aud=f"{AUDIENCE}@example.com/"),
    "many audiences": lambda: token(aud=[AUDIENCE]),
    "http": lambda: token(aud=AUDIENCE.replace("https", "http")),
    "unsigned": unsigned,
    "signed with the public key": signed_with_the_public_key,
    "changed": lambda: token()[:-8] + "AAAAAAAA",
    "too long": lambda: token(note="x" * 4000),
    "signature removed": lambda: removed(token()),
}


@pytest.mark.parametrize("forged", FORGED)
def test_token_that_does_not_hold_is_refused(world, knock, forged):
    assert knock(f"Bearer {FORGED[forged]()}") == 401
    assert world.vertex.calls == []


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "simclr-pipeline@my-project.iam.gserviceaccount.com"},
        {"email": "simclr-invoker@other-project.iam.gserviceaccount.com"},
        {"email": f"{ENVIRONMENT['INVOKER']}.example.com"},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
    ],
    ids=str,
)
def test_another_account_is_forbidden(world, knock, claims):
    assert knock(f"Bearer {token(**claims)}") == 403
    assert world.vertex.calls == []


@pytest.fixture
def behind_iam(environment):
    """A service, if made after this, that takes tokens whose signature Cloud Run has checked and removed."""
    environment.setenv("REMOVED_SIGNATURES", "accept")


def test_token_that_cloud_run_has_checked_counts_without_its_signature(world, behind_iam, knock):
    assert knock(f"Bearer {removed(token())}") == 200
    assert world.key_requests == 0


@pytest.mark.parametrize("claims", ["expired", "not yet", "another issuer", "another service", "no account"])
def test_claims_of_a_token_without_signature_are_checked_all_the_same(world, behind_iam, knock, claims):
    assert knock(f"Bearer {removed(FORGED[claims]())}") == 401
    assert world.vertex.calls == []


def test_another_account_without_signature_is_forbidden(world, behind_iam, knock):
    assert knock(f"Bearer {removed(token(email='other@example.com'))}") == 403


@pytest.mark.parametrize("forged", ["unsigned", "another key, Google's name for it", "changed"])
def test_a_signature_that_is_there_is_checked_behind_cloud_run_too(behind_iam, knock, forged):
    assert knock(f"Bearer {FORGED[forged]()}") == 401


def test_of_two_tokens_the_one_that_cloud_run_checks_counts(behind_iam, knock):
    stranger = removed(token(email="other@example.com"))
    serverless = {"X-Serverless-Authorization": f"Bearer {stranger}"}
    assert knock(f"Bearer {removed(token())}", **serverless) == 403
    assert knock(f"Bearer {stranger}", **{"X-Serverless-Authorization": f"Bearer {removed(token())}"}) == 200


def test_keys_are_asked_for_once_and_again_when_they_are_old(world, knock, monkeypatch):
    assert {knock(f"Bearer {token()}") for _ in range(3)} == {200}
    assert world.key_requests == 1
    # Nor does a stranger's key make the service ask each time.
    assert {knock(f"Bearer {token(key_id=f'unknown {number}')}") for number in range(3)} == {401}
    assert world.key_requests == 1
    hour = time.monotonic() + 3601
    monkeypatch.setattr("time.monotonic", lambda: hour)
    assert knock(f"Bearer {token()}") == 200
    assert world.key_requests == 2


@pytest.mark.parametrize("answer", [(503, b""), (200, b"<html>"), (200, b'{"keys": []}'), (200, b"[]")])
def test_issuer_without_keys_lets_nobody_in_and_asks_for_another_try(world, knock, answer):
    world.keys_answer = answer
    assert knock(f"Bearer {token()}") in (401, 503)
    assert world.vertex.calls == []
    world.keys_answer = None
    assert knock(f"Bearer {token()}") == 200


def test_issuer_that_fails_is_our_trouble_and_not_the_callers(world, knock):
    world.keys_answer = (503, b"")
    assert knock(f"Bearer {token()}") == 503


def test_tokens_are_in_no_log_and_in_no_answer(world, service, caplog):
    tokens = [token(), *(make() for make in FORGED.values()), token(email="other@example.com")]
    with caplog.at_level(logging.DEBUG):
        answers = [service(**structured(finalized()), authorization=f"Bearer {each}") for each in tokens]
        world.keys_answer = (503, b"")
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    told += "".join(answer.text for answer in answers)
    for each in tokens:
        for part in each.split(".")[1:]:
            assert len(part) < 20 or part not in told


def test_health_is_anybodys(service):
    answer = service("/health", method="GET", authorization=None)
    assert (answer.status_code, answer.text) == (200, "ok\n")
