"""Schedules: one of a name, one run at a time, what was missed is skipped; the fake's clock is moved by the tests."""

import datetime
import subprocess
import sys

import golden_job
import golden_requests
import grpc
import pytest
from click.testing import CliRunner
from google.cloud import aiplatform
from google.cloud.aiplatform_v1.types import PipelineState

from pipeline import cli, cli_session
from pipeline.runners import vertex_schedules
from pipeline.runners.vertex_calls import ServiceError
from trainer.config import ConfigError

BUSY = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
METHODS = ("ListSchedules", "CreateSchedule", "UpdateSchedule", "DeleteSchedule")
DAY = datetime.timedelta(days=1)


def schedule(cron="0 3 * * *", *overrides, **arguments):
    return vertex_schedules.schedule(golden_requests.config(*overrides), cron, "unused", **arguments)


def finish(fake):
    for job in fake.jobs.values():
        job.state = PipelineState.PIPELINE_STATE_SUCCEEDED


def begun(fake):
    return [job.create_time for job in fake.jobs.values()]


def test_runs_begin_at_the_hour_of_the_time_zone_also_after_the_clocks_change(fake):
    made = schedule(timezone="Europe/Berlin")
    assert made.is_new and made.state == "ACTIVE" and made.cron == "TZ=Europe/Berlin 0 3 * * *"
    assert (made.next_run.day, made.next_run.hour) == (2, 2)
    for _ in range(2):
        fake.advance(fake.now + DAY)
        finish(fake)
    fake.now = datetime.datetime(2026, 4, 1, 0, 30, tzinfo=datetime.timezone.utc)
    fake.advance(fake.now + DAY / 2)
    assert [time.hour for time in begun(fake)] == [2, 2, 1]


def test_run_due_while_the_one_before_still_runs_is_skipped_and_not_made_up_for(fake):
    schedule()
    fake.advance(fake.now + 3 * DAY)
    assert len(fake.jobs) == 1
    finish(fake)
    fake.advance(fake.now + DAY)
    assert len(fake.jobs) == 2


def test_runs_missed_while_paused_are_not_made_up_for(fake):
    made = schedule()
    sdk = aiplatform.PipelineJobSchedule.get(made.resource, project="my-project", location="us-central1")
    sdk.pause()
    fake.advance(fake.now + 3 * DAY)
    sdk.resume(catch_up=False)
    assert fake.jobs == {}
    fake.advance(fake.now + DAY)
    assert len(fake.jobs) == 1


def test_scheduled_run_is_the_compiled_pipeline_as_the_same_account(fake):
    schedule()
    fake.advance(fake.now + DAY)
    [job] = fake.jobs.values()
    assert job.service_account == "simclr-pipeline@my-project.iam.gserviceaccount.com"
    assert job.labels["team"] == "vision"
    assert job.pipeline_spec["pipelineInfo"]["name"] == "simclr"


def test_same_name_again_changes_the_schedule_with_its_pipeline(fake):
    first = schedule()
    second = schedule("30 4 * * *", "vertex.labels.team=sound")
    assert (second.resource, second.is_new) == (first.resource, False)
    assert list(fake.schedules) == [first.resource]
    assert fake.schedules[first.resource].cron == "TZ=UTC 30 4 * * *"
    [request] = fake.called("UpdateSchedule")
    assert "create_pipeline_job_request" in request.update_mask.paths


def test_another_name_is_another_schedule_and_unscheduling_leaves_it(fake):
    schedule(name="nightly")
    kept = schedule(name="weekly")
    [removed] = vertex_schedules.unschedule(golden_requests.config(), name="nightly")
    assert removed.name == "nightly"
    assert list(fake.schedules) == [kept.resource]
    assert vertex_schedules.schedules(golden_requests.config()) == [
        vertex_schedules.Schedule(kept.resource, "weekly", kept.cron, "ACTIVE", kept.next_run)
    ]


def test_several_of_a_name_are_not_guessed_at(fake):
    schedule()
    other = schedule(name="other")
    fake.schedules[other.resource].display_name = "simclr"
    with pytest.raises(ServiceError, match="2 schedules are called simclr"):
        schedule()
    assert len(vertex_schedules.unschedule(golden_requests.config())) == 2
    assert fake.schedules == {}


def test_unscheduling_what_is_not_there_is_told(fake):
    with pytest.raises(ServiceError, match=r"no schedule in .* is called simclr"):
        vertex_schedules.unschedule(golden_requests.config())


@pytest.mark.parametrize("after", [False, True], ids=["not heard", "answer lost"])
@pytest.mark.parametrize("code", BUSY)
@pytest.mark.parametrize("method", METHODS)
def test_busy_service_is_asked_again_and_a_lost_answer_does_nothing_twice(fake, waits, method, code, after):
    if method in ("UpdateSchedule", "DeleteSchedule"):
        schedule("30 4 * * *")
    fake.refuse(method, code, times=1 if after else 2, after=after)
    if method == "DeleteSchedule":
        assert [item.name for item in vertex_schedules.unschedule(golden_requests.config())] == ["simclr"]
        assert fake.schedules == {}
    else:
        assert schedule().is_new == (method != "UpdateSchedule")
        assert [item.cron for item in fake.schedules.values()] == ["TZ=UTC 0 3 * * *"]
    assert len(waits) == (1 if after else 2)


@pytest.mark.parametrize("method", METHODS)
def test_refused_permission_names_the_role_and_is_not_tried_again(fake, method):
    if method in ("UpdateSchedule", "DeleteSchedule"):
        schedule("30 4 * * *")
    before = [item.cron for item in fake.schedules.values()]
    n_asked = len(fake.called(method))
    fake.refuse(method, grpc.StatusCode.PERMISSION_DENIED, "denied")
    with pytest.raises(ServiceError, match=r"roles/aiplatform\.user"):
        if method == "DeleteSchedule":
            vertex_schedules.unschedule(golden_requests.config())
        else:
            schedule()
    assert [item.cron for item in fake.schedules.values()] == before
    assert len(fake.called(method)) == n_asked + 1


@pytest.mark.parametrize("cron", ["", "0 3 * *", "0 3 * * 1 2026", "0 3 ? * 1", "TZ=UTC 0 3 * * 1"])
def test_cron_that_is_none_is_refused_before_anything_is_sent(fake, cron):
    with pytest.raises(ConfigError, match="five fields"):
        schedule(cron)
    assert fake.calls == []


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("99 3 * * 1", "Bad minute"),
        ("0 24 * * 1", "Bad hour"),
        ("0 3 31 2 *", "Bad day-of-month"),
        ("0 3 * * MOO", "Bad"),
    ],
)
def test_cron_of_a_time_that_there_is_not_is_refused_before_anybody_is_asked_anything(fake, monkeypatch, cron, words):
    monkeypatch.setattr(cli_session, "stop_at_errors", lambda *_, **__: pytest.fail("preflight came first"))
    done = CliRunner().invoke(cli.main, ["schedule", "--config", str(golden_job.EXAMPLE), "--cron", cron])
    assert done.exit_code == 2
    assert f"configuration: cron = {cron!r}: " in done.stderr and words in done.stderr
    assert fake.calls == []


def test_time_that_there_is_not_is_refused_before_tensorflow_is_loaded():
    program = "import sys; from pipeline import cli; cli.main(sys.argv[1:], standalone_mode=False)"
    watched = f"import atexit, sys; atexit.register(lambda: print('tensorflow' in sys.modules)); {program}"
    command = ["schedule", "--config", str(golden_job.EXAMPLE), "--cron", "99 3 * * 1"]
    done = subprocess.run([sys.executable, "-c", watched, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert "Bad minute" in done.stderr


@pytest.mark.parametrize("timezone", ["Berlin", "../etc", ""])
def test_time_zone_that_is_none_is_refused(fake, timezone):
    with pytest.raises(ConfigError, match="there is none of that name, such as Europe/Berlin"):
        schedule(timezone=timezone)
    assert fake.calls == []


def test_name_that_vertex_ai_does_not_take_is_refused_and_one_of_any_signs_is_found_again(fake):
    for name in ("", "x" * 129):
        with pytest.raises(ConfigError, match="must be of 1 to 128 characters"):
            schedule(name=name)
    assert fake.calls == []
    odd = "☃ / \"x\" = 'y'\\"
    assert [schedule(name=odd).is_new for _ in range(2)] == [True, False]
    [removed] = vertex_schedules.unschedule(golden_requests.config(), name=odd)
    assert (removed.name, fake.schedules) == (odd, {})


def test_project_is_asked_for(fake):
    with pytest.raises(ConfigError, match=r"vertex\.project = null"):
        vertex_schedules.schedules(golden_requests.config("vertex.project=null"))


def test_commands_make_list_and_delete(fake):
    def invoke(command, *arguments):
        done = CliRunner().invoke(cli.main, [command, "--config", str(golden_job.EXAMPLE), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    made = invoke("schedule", "--no-preflight", "--cron", "0 3 * * 1")
    assert made.startswith("made simclr: TZ=UTC 0 3 * * 1, ACTIVE, next run 2026-03-02 03:00 UTC (projects/")
    assert invoke("schedule", "--no-preflight", "--cron", "0 4 * * 1").startswith("changed simclr")
    assert invoke("schedules").startswith("simclr: TZ=UTC 0 4 * * 1, ACTIVE")
    assert invoke("unschedule").startswith("deleted simclr")
    assert invoke("schedules") == "no schedules\n"
