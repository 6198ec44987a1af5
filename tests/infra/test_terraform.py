"""Terraform's files: parsed, their names and roles checked. Nothing is planned or applied: no Terraform is here."""

import re
import shutil
from pathlib import Path

import celpy
import pytest

pytest.importorskip("hcl2", reason="python-hcl2 isn't installed; 'make environment' installs it")
import google_provider
from terraform_files import faults, granted_roles, provider, read

from pipeline.config import load_config
from pipeline.runners import job_template
from pipeline.runners.vertex_preflight import roles

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
MODULES = {
    "storage", "registry", "identities", "services", "schedule", "trigger", "budget", "encryption", "perimeter",
    "platform",
}  # fmt: skip
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


def test_every_file_parses_and_every_name_in_it_exists():
    assert faults(TERRAFORM) == []


def test_provider_that_is_asked_for_is_the_one_whose_arguments_are_known():
    known = provider()["version"].split(".")
    for versions in TERRAFORM.rglob("versions.tf"):
        [asked] = re.findall(r'version = "~> ([\d.]+)"', versions.read_text())
        assert asked.split(".") == known[:2], versions
    assert google_provider.used(TERRAFORM) == set(provider()) - {"version"}


def test_accounts_that_modules_are_handed_exist():
    accounts = set(read(TERRAFORM / "modules" / "identities").locals["accounts"])
    platform = TERRAFORM / "modules" / "platform"
    named = {name for file in platform.glob("*.tf") for name in re.findall(r'emails\["(\w+)"\]', file.read_text())}
    assert len(named) > 3 and named <= accounts


def test_every_module_is_there_and_only_they():
    assert {path.name for path in (TERRAFORM / "modules").iterdir()} == MODULES
    assert {path.name for path in (TERRAFORM / "envs").iterdir()} == {"dev", "prod"}


def test_only_roles_of_the_list_are_granted_and_all_of_them_are():
    assert granted_roles(TERRAFORM) == ALLOWED_ROLES


def test_platform_hangs_all_modules_together():
    platform = read(TERRAFORM / "modules" / "platform")
    assert set(platform.modules) == MODULES - {"platform"}


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


def test_pipeline_can_only_read_the_images_that_it_is_given():
    grants = read(TERRAFORM / "modules" / "identities").locals["bucket_roles"].values()
    on_images = {grant["role"] for grant in grants if grant["bucket"] == "${var.images_bucket}"}
    assert on_images == {"roles/storage.objectViewer"}


def test_both_environments_differ_in_what_can_be_lost():
    dev, prod = (read(TERRAFORM / "envs" / name).modules["platform"] for name in ("dev", "prod"))
    assert dev["force_destroy"] is True and "force_destroy" not in prod
    assert prod["customer_managed_key"] is True and "customer_managed_key" not in dev
    assert dev["budget_amount"] < prod["budget_amount"]


BUCKET = """
resource "google_storage_bucket" "images" {
  name                        = var.name
  location                    = "us-central1"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 7
    }
  }

  dynamic "encryption" {
    for_each = [var.name]
    content {
      default_kms_key_name = encryption.value
    }
  }
}
"""
GRANT = """
locals {
  grants = {
    run = {
      role   = "roles/run.invoker"
      reason = "somebody has to call it"
    }
  }
}

resource "google_project_iam_member" "this" {
  for_each = local.grants

  project = var.name
  role    = each.value.role
  member  = "serviceAccount:${google_storage_bucket.images.name}"
}

resource "google_cloud_run_v2_service" "this" {
  name     = var.name
  location = "us-central1"

  template {
    containers {
      image = local.grants.run.reason

      env {
        name  = "NAME"
        value = var.name
      }
    }
  }
}
"""
VARIABLE = """
variable "name" {
  description = "A name."
  type        = string
}
"""
OUTPUT = """
output "bucket" {
  description = "A bucket."
  value       = google_storage_bucket.images.name
}
"""
CALL = """
module "child" {
  source = "../child"
  count  = 1

  name = "x"
}

output "bucket" {
  description = "A bucket."
  value       = module.child[0].bucket
}
"""


def write(root, *, child=BUCKET + GRANT + VARIABLE + OUTPUT, parent=CALL):
    for folder, text in (("child", child), ("parent", parent)):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "main.tf").write_text(text)


def test_sound_pair_of_modules_has_no_faults(tmp_path):
    write(tmp_path)
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    "right, wrong, fault",
    [
        ("var.name", "var.nmae", "child: var.nmae is not declared"),
        ("var.name", '"x"', "child: variable name is used nowhere"),
        ('  description = "A name."\n', "", "child: variable name has no description"),
        ("  type        = string\n", "", "child: variable name has no type"),
        ("local.grants", "local.grant", "child: local.grant is not declared"),
        (
            "${google_storage_bucket.images.name}",
            "${google_storage_bucket.image.name}",
            "child: google_storage_bucket.image is not declared",
        ),
        (
            "= google_storage_bucket.images.name",
            "= data.google_project.this.number",
            "child: data.google_project.this is not declared",
        ),
        (
            "uniform_bucket_level_access = true",
            "uniform_bucket_level_access = false",
            "child: google_storage_bucket.images has no uniform access",
        ),
        ('"enforced"', '"inherited"', "child: google_storage_bucket.images may become public"),
        ("enabled = true", "enabled = false", "child: google_storage_bucket.images keeps no versions"),
        ("lifecycle_rule", "cors", "child: google_storage_bucket.images has no lifecycle"),
        ('      reason = "somebody has to call it"\n', "", "child: roles/run.invoker is granted without a reason"),
        ("roles/run.invoker", "roles/editor", "child: roles/editor is a primitive role"),
        (
            "each.value.role",
            '"roles/run.invoker"',
            "child: google_project_iam_member.this takes its role from no list of reasons",
        ),
        (
            "google_project_iam_member",
            "google_project_iam_binding",
            "child: google_project_iam_binding.this takes the role from all others: use google_project_iam_member",
        ),
        (
            "serviceAccount:${google_storage_bucket.images.name}",
            "allUsers",
            "child: google_project_iam_member.this is for everybody",
        ),
        (
            "uniform_bucket_level_access",
            "uniform_access",
            "child: google_storage_bucket.images takes no uniform_access",
        ),
        (
            "default_kms_key_name",
            "kms_key_name",
            "child: google_storage_bucket.images.encryption takes no kms_key_name",
        ),
        (
            "default_kms_key_name = encryption.value",
            "",
            "child: google_storage_bucket.images.encryption needs default_kms_key_name",
        ),
        ("  project = var.name\n", "", "child: google_project_iam_member.this needs project"),
        ("      age =", "      days =", "child: google_storage_bucket.images.lifecycle_rule.condition takes no days"),
        (
            "    condition {",
            "    condition = {",
            "child: google_storage_bucket.images.lifecycle_rule: condition is a block",
        ),
        (
            '"google_storage_bucket"',
            '"google_storage_buckets"',
            "child: google_storage_buckets.images is of a kind that google_provider.json lacks",
        ),
        (
            "${google_storage_bucket.images.name}",
            "${google_storage_bucket.images.email}",
            "child: google_storage_bucket.images tells no email",
        ),
        ("each.value.role", "each.value.rule", "child: google_project_iam_member.this: grants.run has no rule"),
        ("local.grants.run.reason", "local.grants.runs.reason", "child: local.grants.runs.reason is not declared"),
        (
            "        value = var.name\n",
            "",
            "child: google_cloud_run_v2_service.this: its variable NAME has no value",
        ),
        (
            "        value = var.name\n",
            '        value = ""\n',
            "child: google_cloud_run_v2_service.this: its variable NAME has no value",
        ),
        ("module.child[0].bucket", "module.child[0].buckets", "parent: module.child has no output buckets"),
        ("module.child[0].bucket", "module.chidl.bucket", "parent: module.chidl is not declared"),
        ('  name = "x"\n', "", "parent: module child needs name"),
        ('  name = "x"\n', '  name = "x"\n  nmae = "x"\n', "parent: module child takes no nmae"),
        ('  source = "../child"', '  source = "../chidl"', "parent: module child is in ../chidl, where nothing is"),
    ],
)
def test_planted_fault_is_found(tmp_path, right, wrong, fault):
    child, parent = BUCKET + GRANT + VARIABLE + OUTPUT, CALL
    assert right in child + parent
    write(tmp_path, child=child.replace(right, wrong), parent=parent.replace(right, wrong))
    assert fault in faults(tmp_path)


def test_file_that_is_no_hcl_is_refused(tmp_path):
    write(tmp_path, parent="module {{")
    with pytest.raises(Exception, match="Unexpected"):
        faults(tmp_path)


def test_role_that_nobody_allowed_is_found(tmp_path):
    shutil.copytree(TERRAFORM, tmp_path / "terraform")
    main = tmp_path / "terraform" / "modules" / "identities" / "main.tf"
    main.write_text(main.read_text().replace("roles/storage.objectUser", "roles/storage.admin"))
    assert granted_roles(tmp_path) != ALLOWED_ROLES
