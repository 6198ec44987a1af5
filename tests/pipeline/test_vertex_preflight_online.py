"""Preflight over HTTP to services on loopback: what is asked, how answers read, what stops a submission."""

import logging

import fake_google
import golden_job
import golden_requests
import google.auth
import pytest
from click.testing import CliRunner
from google.oauth2.credentials import Credentials

from pipeline import cli
from pipeline.config import load_config
from pipeline.runners import vertex_preflight
from pipeline.runners.vertex_preflight import findings, rest
from pipeline.runners.vertex_preflight.findings import Severity

ACCOUNT = "simclr-pipeline@my-project.iam.gserviceaccount.com"
KEY = "projects/my-project/locations/us-central1/keyRings/r/cryptoKeys/k"
SUBNETWORK = "regions/us-central1/subnetworks/s"


@pytest.fixture
def fake(monkeypatch):
    with fake_google.serving() as served:
        monkeypatch.setattr(google.auth, "default", lambda *_, **__: (Credentials(token="s3cr3t"), "my-project"))
        monkeypatch.setattr(vertex_preflight, "Endpoints", lambda: served.endpoints)
        yield served


def inspect(*overrides):
    return vertex_preflight.inspect(load_config(str(golden_job.EXAMPLE), overrides))


def told(subject, *overrides):
    """Severity and words of what is told of a subject."""
    return [(item.severity, item.words) for item in inspect(*overrides) if item.subject == subject]


def errors(*overrides):
    return [(item.subject, item.words) for item in inspect(*overrides) if item.severity is Severity.ERROR]


def test_example_in_a_project_where_all_is_well_has_no_errors(fake):
    found = inspect()
    assert not findings.has_errors(found)
    assert not [item for item in found if item.severity is Severity.NOT_CHECKED]
    assert {call.headers["Authorization"] for call in fake.calls} == {"Bearer s3cr3t"}


def test_token_is_in_no_log_and_in_no_finding(fake, caplog):
    fake.refusals = [("/storage/", 403, "denied"), ("/packages/", 500, "broken")]
    with caplog.at_level(logging.DEBUG):
        found = inspect()
    assert "s3cr3t" not in caplog.text + str(found)


def test_project_that_is_not_there_ends_the_questions(fake):
    fake.states = {}
    [(subject, words)] = errors()
    assert subject == "vertex.project" and "does not exist, or you may not see it" in words
    assert len(fake.calls) == 1
    # Google also says 403 of a name that nobody has.
    fake.states, fake.refusals = {"my-project": "ACTIVE"}, [("v3/projects/my-project", 403, "denied")]
    assert [subject for subject, _ in errors()] == ["vertex.project"]


def test_project_on_its_way_out_is_an_error(fake):
    fake.states["my-project"] = "DELETE_REQUESTED"
    assert "DELETE_REQUESTED" in errors()[0][1]


def test_api_that_is_off_is_an_error_with_the_command(fake):
    fake.off = {"dataflow.googleapis.com"}
    [(subject, words)] = errors()
    assert subject == "APIs" and "gcloud services enable dataflow.googleapis.com --project my-project" in words
    assert errors("beam.runner=local") == []


def test_lacking_permissions_are_errors_with_the_role(fake):
    fake.lacking = {"aiplatform.pipelineJobs.create", "iam.serviceAccounts.actAs"}
    found = dict(errors())
    assert "--role roles/aiplatform.user" in found["your permissions"]
    assert f"add-iam-policy-binding {ACCOUNT}" in found["vertex.service_account"]


def test_account_that_is_not_there_is_an_error(fake):
    fake.accounts = set()
    assert "does not exist" in dict(errors())["vertex.service_account"]


def test_roles_of_the_account_are_held_against_the_project(fake):
    fake.bindings = [("roles/aiplatform.user", f"serviceAccount:{ACCOUNT}")]
    found = told(f"roles of {ACCOUNT}")
    assert (Severity.OK, "has roles/aiplatform.user on the project") in found
    [lack] = [words for severity, words in found if severity is Severity.WARNING and "dataflow.developer" in words]
    assert f"--member serviceAccount:{ACCOUNT} --role roles/dataflow.developer" in lack


def test_roles_that_may_not_be_seen_are_listed(fake):
    fake.refusals = [(":getIamPolicy", 403, "denied")]
    found = {item.subject: item for item in inspect()}
    assert found["roles"].severity is Severity.NOT_CHECKED
    assert "roles/aiplatform.user on project" in found[f"roles of {ACCOUNT}"].words


def test_bucket_that_is_not_there_is_an_error(fake):
    fake.buckets = {}
    assert {subject for subject, _ in errors()} == {
        "vertex.pipeline_root",
        "data.unlabeled",
        "data.labeled",
        "data.test",
    }


@pytest.mark.parametrize(
    ("location", "severity"),
    [
        ("US-CENTRAL1", Severity.OK),
        ("US", Severity.OK),
        ("NAM4", Severity.OK),
        ("EU", Severity.WARNING),
        ("EUR4", Severity.WARNING),
        ("US-EAST1", Severity.WARNING),
    ],
)
def test_bucket_far_from_the_region_is_a_warning(fake, location, severity):
    fake.buckets["my-bucket"] = location
    [found] = [item for item in told("vertex.pipeline_root") if location.lower() in item[1] and "in " in item[1]]
    assert found[0] is severity


def test_root_that_the_caller_may_not_write_is_a_warning(fake):
    fake.lacking = {"storage.objects.create"}
    assert any("you lack storage.objects.create" in words for _, words in told("vertex.pipeline_root"))
    assert errors() == []


@pytest.mark.parametrize("field", ["retrain.store", "beam.dataflow.temp_location"])
def test_every_bucket_that_is_written_into_is_looked_at(fake, field):
    [(subject, words)] = errors(f"{field}=gs://elsewhere/x")
    assert subject == field and "gs://elsewhere: no such bucket" in words
    fake.buckets["elsewhere"] = "EU"
    fake.lacking = {"storage.objects.create"}
    far, lacking = (
        words for severity, words in told(field, f"{field}=gs://elsewhere/x") if severity is Severity.WARNING
    )
    assert "crosses regions" in far and "you lack storage.objects.create" in lacking


def test_source_with_nothing_in_it_is_an_error(fake):
    fake.objects["my-bucket"].remove("images/test/1.png")
    [(subject, words)] = errors()
    assert subject == "data.test" and "gs://my-bucket/images/test" in words
    assert errors("data.test=gs://my-bucket/images/lab*/*.png") == []
    assert errors("data.test=gs://my-bucket/images/lob*/*.png") != []


def test_image_that_is_not_there_is_an_error_and_a_tag_is_told_with_its_digest(fake):
    found = [words for _, words in told("vertex.image") if "exists" in words]
    assert found == [
        "us-central1-docker.pkg.dev/my-project/simclr/pipeline:v1: exists, now "
        f"us-central1-docker.pkg.dev/my-project/simclr/pipeline@{fake_google.DIGEST}"
    ]
    fake.packages.remove("pipeline:v1")
    assert [subject for subject, _ in errors()] == ["vertex.image"]


def test_image_by_digest_and_below_a_folder_is_found(fake):
    image = f"us-central1-docker.pkg.dev/my-project/simclr/team/pipeline@{fake_google.DIGEST}"
    assert [subject for subject, _ in errors(f"vertex.image={image}")] == ["vertex.image"]
    fake.packages.add(f"team/pipeline@{fake_google.DIGEST}")
    assert errors(f"vertex.image={image}") == []


def test_image_elsewhere_is_not_checked(fake):
    assert (Severity.NOT_CHECKED, "docker.io/me/pipeline:v1: not in Artifact Registry, so nobody looked") in told(
        "vertex.image", "vertex.image=docker.io/me/pipeline:v1"
    )


@pytest.mark.parametrize(
    ("limit", "severity"), [(1, Severity.ERROR), (4, Severity.OK), (-1, Severity.OK), (0, Severity.ERROR)]
)
def test_limit_of_the_pods_quota_is_compared(fake, limit, severity):
    fake.limits["custom_model_training_preemptible_tpu_v5e"] = limit
    found = [item for item in told("quota") if "tpu_v5e" in item[1] and item[0] is not Severity.NOTE]
    assert [item[0] for item in found] == [severity]


def test_limit_below_the_peak_only_is_a_warning(fake):
    fake.limits["custom_model_training_cpus"] = 9
    [found] = [item for item in told("quota") if "training_cpus" in item[1] and item[0] is not Severity.NOTE]
    assert found[0] is Severity.WARNING


def test_quota_without_a_name_there_is_not_checked(fake):
    fake.refusals = [("tpu_v5e", 404, "none")]
    [found] = [item for item in told("quota") if "tpu_v5e" in item[1] and item[0] is not Severity.NOTE]
    assert found[0] is Severity.NOT_CHECKED


ENDPOINT = "vertex.registry.endpoint=photos"


@pytest.mark.parametrize(
    ("field", "machine"),
    [
        ("vertex.pretraining.machine_type", "ct5lp-hightpu-4t"),
        ("beam.dataflow.machine_type", "e2-standard-4"),
        ("vertex.registry.machine_type", "n1-standard-2"),
    ],
)
def test_type_of_machine_must_be_in_the_region(fake, field, machine):
    assert (Severity.OK, f"{machine}: Compute Engine has it in us-central1-a, us-central1-f") in told(field, ENDPOINT)
    fake.zones[machine] = ["europe-west4-b", "us-central2-b"]
    words = f"{machine}: Compute Engine has none in us-central1; it has in europe-west4, us-central2"
    assert errors(ENDPOINT) == [(field, words)]
    fake.zones[machine] = []
    assert errors(ENDPOINT) == [(field, f"{machine}: Compute Engine has no such type of machine")]


def test_types_of_machine_that_may_not_be_asked_for_are_not_checked(fake):
    fake.refusals = [("/machineTypes", 403, "denied")]
    [*_, (severity, words)] = told("vertex.pretraining.machine_type")
    assert severity is Severity.NOT_CHECKED
    assert words.startswith("you may not look: ") and words.endswith("denied")


def test_network_and_key_are_looked_for(fake):
    given = (f"vertex.kms_key={KEY}", "vertex.network=projects/12/global/networks/n")
    assert {subject for subject, _ in errors(*given)} == {"vertex.kms_key", "vertex.network"}
    fake.resources = {f"/v1/{KEY}": {"primary": {"state": "ENABLED"}}}
    fake.resources["/compute/v1/projects/12/global/networks/n"] = {"name": "n"}
    assert errors(*given) == []
    fake.resources[f"/v1/{KEY}"]["primary"]["state"] = "DISABLED"
    assert [subject for subject, _ in errors(*given)] == ["vertex.kms_key"]


def test_subnetwork_of_private_workers_must_reach_google(fake):
    given = (f"beam.dataflow.subnetwork={SUBNETWORK}", "beam.dataflow.public_ips=false")
    assert [subject for subject, _ in errors(*given)] == ["beam.dataflow.subnetwork"]
    fake.resources = {f"/compute/v1/projects/my-project/{SUBNETWORK}": {"privateIpGoogleAccess": False}}
    assert "private access to Google is off" in errors(*given)[0][1]
    assert errors(given[0]) == []
    fake.resources[f"/compute/v1/projects/my-project/{SUBNETWORK}"]["privateIpGoogleAccess"] = True
    assert errors(*given) == []


def test_busy_service_is_asked_again(fake, waits):
    fake.refusals = [("batchGet", 503, "busy"), ("batchGet", 429, "busy")]
    assert told("APIs")[0][0] is Severity.OK
    assert len(waits) == 2


def test_what_may_not_be_asked_is_not_checked_and_stops_nothing(fake):
    fake.refusals = [("batchGet", 403, "denied"), ("v3/projects/my-project", 403, "API has not been used before")]
    found = inspect()
    assert not findings.has_errors(found)
    not_checked = {item.subject: item.words for item in found if item.severity is Severity.NOT_CHECKED}
    assert "you may not look: " in not_checked["APIs"] and "its API is off" in not_checked["vertex.project"]


def test_service_that_is_not_there_is_not_checked_at_once(fake, monkeypatch):
    def waited(_):
        raise AssertionError("waited for a service that is not there")

    # The port of discard, where nobody listens.
    nowhere = rest.Endpoints(*["http://127.0.0.1:9"] * 7)
    monkeypatch.setattr(vertex_preflight, "Endpoints", lambda: nowhere)
    monkeypatch.setattr("time.sleep", waited)
    assert told("vertex.project")[-1][0] is Severity.NOT_CHECKED


@pytest.fixture
def vertex(monkeypatch, fake):
    credentials = google.auth.default
    with golden_requests.vertex_ai(monkeypatch) as served:
        monkeypatch.setattr(google.auth, "default", credentials)
        yield served


SUBMIT, SCHEDULE = ("submit",), ("schedule", "--cron", "0 3 * * 1")


def invoke(*arguments):
    return CliRunner().invoke(cli.main, [*arguments, "--config", str(golden_job.EXAMPLE)])


@pytest.mark.parametrize("command", [SUBMIT, SCHEDULE])
def test_command_is_stopped_by_an_error_before_anything_is_sent(fake, vertex, command):
    fake.packages = set()
    done = invoke(*command)
    assert done.exit_code == 1
    assert "does not exist; build and push it" in " ".join(done.stderr.replace("│", " ").split())
    assert "nothing was sent" in done.stderr
    assert vertex.calls == []


@pytest.mark.parametrize("command", [SUBMIT, SCHEDULE])
def test_command_prints_warnings_and_cost_and_goes_on(fake, vertex, command):
    done = invoke(*command)
    assert done.exit_code == 0, done.output
    assert "a tag can be moved" in " ".join(done.stderr.replace("│", " ").split())
    assert "rough cost" in done.stderr and "exists" not in done.stderr
    assert vertex.calls


@pytest.mark.parametrize("command", [SUBMIT, SCHEDULE])
def test_command_without_preflight_asks_nobody_and_sends(fake, vertex, command):
    fake.packages = set()
    assert invoke(*command, "--no-preflight").exit_code == 0
    assert fake.calls == []
    assert vertex.calls
