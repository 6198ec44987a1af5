"""Promotion and rollback in the Model Registry: which aliases move, what is told, and the commands."""

import logging

import golden_job
import golden_requests
import google.auth
import grpc
import pytest
from click.testing import CliRunner
from pushed_runs import aliases

from components.google_calls import ServiceError
from components.vertex_push.registry import Change
from pipeline import cli
from pipeline.runners import vertex_registry

pytestmark = pytest.mark.usefixtures("waits")


def promote(*overrides, version="candidate"):
    return vertex_registry.promote(golden_requests.config(*overrides).vertex, version)


def roll_back(*overrides):
    return vertex_registry.roll_back(golden_requests.config(*overrides).vertex)


def test_promotion_moves_champion_and_default_and_remembers_the_one_before(fake, register):
    register("a")
    assert promote() == Change("1", None, is_new=True)
    register("b")
    assert promote() == Change("2", "1", is_new=True)
    assert aliases(fake) == {"1": {"previous"}, "2": {"candidate", "champion", "default"}}
    assert promote(version="2") == Change("2", "1", is_new=False)
    assert len(fake.called("MergeVersionAliases")) == 3


def test_rollback_brings_the_champion_before_back_and_once_more_the_other(fake, register):
    for content in "ab":
        register(content)
        promote()
    assert roll_back() == Change("1", "2", is_new=True)
    assert aliases(fake) == {"1": {"champion", "default"}, "2": {"candidate", "previous"}}
    assert roll_back() == Change("2", "1", is_new=True)


def test_rollback_that_was_interrupted_has_rolled_back_and_does_not_go_forth_again(fake, register):
    for content in "ab":
        register(content)
        promote()

    def interrupted_after_one(*arguments, kept=fake._MergeVersionAliases):
        fake.refuse("MergeVersionAliases", grpc.StatusCode.PERMISSION_DENIED, "no more")
        return kept(*arguments)

    fake._MergeVersionAliases = interrupted_after_one
    with pytest.raises(ServiceError, match="no more"):
        roll_back()
    assert aliases(fake)["1"] == {"champion", "default", "previous"}
    with pytest.raises(ServiceError, match="nothing was promoted over it"):
        roll_back()


def test_version_that_is_not_there_is_told_with_those_that_are(fake, register):
    with pytest.raises(ServiceError, match="has no version candidate; it has none"):
        promote()
    register("a")
    with pytest.raises(ServiceError, match=r"has no version 7; it has 1 \(candidate, default\)"):
        promote(version="7")
    with pytest.raises(ServiceError, match="nothing was promoted over it"):
        roll_back()


@pytest.mark.parametrize("act", [promote, roll_back])
def test_busy_registry_is_asked_again_and_refused_permission_told(fake, register, act):
    for content in "ab":
        register(content)
        promote()
    register("c")
    fake.refuse("MergeVersionAliases", grpc.StatusCode.UNAVAILABLE, times=2)
    fake.refuse("ListModelVersions", grpc.StatusCode.RESOURCE_EXHAUSTED, times=2)
    assert act().is_new
    fake.refuse("ListModelVersions", grpc.StatusCode.PERMISSION_DENIED, "denied")
    with pytest.raises(ServiceError, match=r"(promote|roll back): denied\nyou need roles/aiplatform.user"):
        act()


def invoke(*arguments):
    return CliRunner().invoke(cli.main, [*arguments, "--config", str(golden_job.EXAMPLE)])


def test_commands_promote_and_roll_back_and_say_what_they_did(fake, register):
    for content in "ab":
        register(content)
        assert invoke("promote").exit_code == 0
    assert invoke("promote", "--version", "2").stdout == (
        "version 2 was the champion already; the one before: version 1\n"
    )
    assert invoke("rollback").stdout == "version 1 is the champion; the one before: version 2\n"
    failed = invoke("promote", "--version", "9")
    assert failed.exit_code == 1 and "has no version 9" in failed.stderr


@pytest.mark.parametrize("missing", ["vertex.project=null", "vertex.registry.model=null"])
@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_commands_without_a_model_end_with_code_2_and_the_field(fake, missing, command):
    done = invoke(command, "--set", missing)
    assert done.exit_code == 2
    assert f"{missing.replace('=', ' = ')}: must be given" in done.stderr
    assert fake.calls == []


def test_credentials_are_in_no_log_no_request_and_no_description(fake, register, monkeypatch, caplog):
    credentials = google.auth.credentials.Credentials
    secret = type("Secret", (credentials,), {"refresh": lambda self, request: setattr(self, "token", "s3cr3t")})()
    secret.token = "s3cr3t"
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (secret, "my-project"))
    with caplog.at_level(logging.DEBUG):
        register()
        promote()
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in str(fake.calls)
