"""Terraform's files: parsed, names and arguments checked. Nothing is planned or applied, and no Terraform needed."""

import re
from pathlib import Path

import pytest

pytest.importorskip("hcl2", reason="python-hcl2 isn't installed; 'make environment' installs it")
import google_provider
from terraform_files import faults, provider, read

TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
MODULES = {
    "storage", "registry", "identities", "services", "schedule", "trigger", "budget", "encryption", "perimeter",
    "platform",
}  # fmt: skip


def test_every_file_parses_and_every_name_in_it_exists():
    assert faults(TERRAFORM) == []


def test_provider_that_is_asked_for_is_the_one_whose_arguments_are_known():
    known = provider()["version"].split(".")
    for versions in TERRAFORM.rglob("versions.tf"):
        [asked] = re.findall(r'version = "~> ([\d.]+)"', versions.read_text())
        assert asked.split(".") == known[:2], versions
    assert google_provider.used(TERRAFORM) == set(provider()) - {"version"}


def test_every_module_is_there_and_only_they():
    assert {path.name for path in (TERRAFORM / "modules").iterdir()} == MODULES
    assert {path.name for path in (TERRAFORM / "envs").iterdir()} == {"dev", "prod"}


def test_platform_hangs_all_modules_together():
    platform = read(TERRAFORM / "modules" / "platform")
    assert set(platform.modules) == MODULES - {"platform"}


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
