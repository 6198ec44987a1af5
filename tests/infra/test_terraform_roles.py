"""Who is granted which role by Terraform's files, and that documents and preflight say the same."""

import re
import shutil
from pathlib import Path

import celpy
import pytest

pytest.importorskip("hcl2", reason="python-hcl2 isn't installed; 'make environment' installs it")
from terraform_files import granted_roles, read

from pipeline.config import load_config
from pipeline.runners import job_template
from pipeline.runners.vertex_preflight import roles

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
# All roles that may be granted, and by which module. A new one is written down here and beside its reason there.
ALLOWED_ROLES = {
    "roles/aiplatform.user": {"identities"},
    "roles/artifactregistry.reader": {"identities"},
    "roles/artifactregistry.writer": {"identities"},
    "roles/cloudkms.cryptoKeyEncrypterDecrypter": {"encryption"},
    "roles/dataflow.developer": {"identities"},
    "roles/dataflow.worker": {"identities"},
    "roles/eventarc.eventReceiver": {"identities"},
    "roles/iam.serviceAccountUser": {"identities"},
    "roles/logging.logWriter": {"identities"},
    "roles/pubsub.publisher": {"trigger"},
    "roles/run.invoker": {"trigger"},
    "roles/storage.legacyBucketReader": {"identities"},
    "roles/storage.objectUser": {"identities"},
    "roles/storage.objectViewer": {"identities"},
}


def test_accounts_that_modules_are_handed_exist():
    accounts = set(read(TERRAFORM / "modules" / "identities").locals["accounts"])
    platform = TERRAFORM / "modules" / "platform"
    named = {name for file in platform.glob("*.tf") for name in re.findall(r'emails\["(\w+)"\]', file.read_text())}
    assert len(named) > 3 and named <= accounts


def test_only_roles_of_the_list_are_granted_and_all_of_them_are():
    assert granted_roles(TERRAFORM) == ALLOWED_ROLES


def test_service_accounts_can_be_granted_nothing_on_accounts_that_do_not_exist():
    grants = read(TERRAFORM / "modules" / "identities").locals
    for kind in ("project_roles", "bucket_roles", "registry_roles", "impersonations"):
        for grant in grants[kind].values():
            assert {grant["account"], grant.get("target", grant["account"])} <= set(grants["accounts"])


def test_preflight_asks_for_the_roles_that_are_granted():
    grants = read(TERRAFORM / "modules" / "identities").locals
    granted = {(grant["account"], grant["role"], "project") for grant in grants["project_roles"].values()}
    granted |= {
        (grant["account"], grant["role"], "gs://images" if "images" in grant["bucket"] else "gs://runs")
        for grant in grants["bucket_roles"].values()
    }
    granted |= {(grant["account"], grant["role"], "docker/simclr") for grant in grants["registry_roles"].values()}
    granted |= {
        (grant["account"], grant["role"], f"simclr-{grant['target']}@my-project.iam.gserviceaccount.com")
        for grant in grants["impersonations"].values()
    }
    places = ("data.unlabeled=gs://images/u", "data.labeled=gs://images/l", "data.test=gs://images/t")
    example = str(TERRAFORM.parent / "vertex.example.yaml")
    config = load_config(
        example, [*places, "vertex.pipeline_root=gs://runs/r", "vertex.image=docker/simclr/pipeline:v1"]
    )
    wanted = {
        (grant.account.removeprefix("simclr-").partition("@")[0], grant.role, grant.place)
        for grant in roles.grants(config)
    }
    assert wanted == {grant for grant in granted if grant[0] in ("pipeline", "dataflow")}


def test_service_that_starts_runs_may_read_what_was_deployed_and_start_it_and_no_more():
    identities = read(TERRAFORM / "modules" / "identities")
    grants = identities.locals
    kinds = ("project_roles", "bucket_roles", "registry_roles", "impersonations")
    granted = {
        grant["role"]: grant for kind in kinds for grant in grants[kind].values() if grant["account"] == "submitter"
    }
    starter = "${google_project_iam_custom_role.starter.name}"
    assert set(granted) == {starter, "roles/iam.serviceAccountUser", "roles/storage.objectViewer"}
    # What pipeline/runners/vertex_jobs.py asks for: post, get, list.
    permissions = {f"aiplatform.pipelineJobs.{verb}" for verb in ("create", "get", "list")}
    assert set(grants["starter_permissions"]) == permissions
    role = identities.resources["google_project_iam_custom_role.starter"]
    assert role["permissions"] == "${local.starter_permissions}"


def test_service_that_starts_runs_reads_the_deployed_pipeline_alone():
    """As IAM would decide it: whether the condition holds for an object, or for the bucket that is listed."""
    grants = read(TERRAFORM / "modules" / "identities").locals
    condition = grants["bucket_roles"]["submitter_runs"]["only"].replace('\\"', '"')
    root, values = storage_root(), {"local.deployed": grants["deployed"], "var.runs_bucket": "b"}
    values["var.runs_folder"] = root.rpartition("/")[2]
    while "${" in condition:
        condition = re.sub(r"\$\{([\w.]+)\}", lambda found: values[found[1]], condition)

    def holds(kind, name):
        resource = {"type": f"storage.googleapis.com/{kind}", "name": f"projects/_/buckets/b{name}"}
        program = celpy.Environment().program(celpy.Environment().compile(condition))
        return bool(program.evaluate({"resource": celpy.json_to_cel(resource)}))

    assert root == "gs://b/runs"
    assert holds("Object", "/objects/" + job_template.uri(root).removeprefix("gs://b/"))
    assert holds("Bucket", "")
    for name in ("runs/summaries/1.json", "runs/deployed.json", "deployed/job.json", "runs/pushed/1/saved_model.pb"):
        assert not holds("Object", f"/objects/{name}"), name


def storage_root():
    storage = read(TERRAFORM / "modules" / "storage")
    root = storage.outputs["pipeline_root"]["value"].replace("${local.runs_folder}", storage.locals["runs_folder"])
    return root.replace("${google_storage_bucket.runs.name}", "b")


def test_every_role_of_our_own_has_its_permissions_from_a_list_above():
    roles_of_our_own = [name for name in every_resource() if "iam_custom_role" in name]
    assert roles_of_our_own == ["google_project_iam_custom_role.starter"]


def every_resource():
    return [name for path in TERRAFORM.rglob("main.tf") for name in read(path.parent).resources]


def test_document_lists_each_account_with_all_its_roles_and_no_other():
    text = (TERRAFORM.parents[1] / "docs" / "infra.md").read_text()
    table = text.partition("| account | role | on | why |")[2].partition("\n\n")[0]
    listed, account = set(), ""
    for line in table.splitlines()[2:]:
        named, role, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        account = named or account
        listed |= {(account, name) for name in re.findall(r"`([\w.]+)`", role)}
    identities = read(TERRAFORM / "modules" / "identities")
    grants = identities.locals
    starter = identities.resources["google_project_iam_custom_role.starter"]["role_id"]
    granted = {
        (grant["account"], starter if "${" in grant["role"] else grant["role"].removeprefix("roles/"))
        for kind in ("project_roles", "bucket_roles", "registry_roles", "impersonations")
        for grant in grants[kind].values()
    }
    assert listed == granted | {("invoker", "run.invoker")}


def test_pipeline_can_only_read_the_images_that_it_is_given():
    grants = read(TERRAFORM / "modules" / "identities").locals["bucket_roles"].values()
    on_images = {grant["role"] for grant in grants if grant["bucket"] == "${var.images_bucket}"}
    assert on_images == {"roles/storage.objectViewer"}


def test_role_that_nobody_allowed_is_found(tmp_path):
    shutil.copytree(TERRAFORM, tmp_path / "terraform")
    main = tmp_path / "terraform" / "modules" / "identities" / "main.tf"
    main.write_text(main.read_text().replace("roles/storage.objectUser", "roles/storage.admin"))
    assert granted_roles(tmp_path) != ALLOWED_ROLES
