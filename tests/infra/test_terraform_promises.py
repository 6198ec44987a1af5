"""What docs/infra.md promises of the modules is in their files: each line was seen to fail on a fault of its own."""

from pathlib import Path

import pytest

pytest.importorskip("hcl2", reason="python-hcl2 isn't installed; 'make environment' installs it")
from terraform_files import Folder, read

MODULES = Path(__file__).parents[2] / "infra" / "terraform" / "modules"
# What a module that knows it must be handed: a default would go unnoticed, and objects be kept without the key.
HANDED_ON = {"project", "region", "kms_key", "labels", "force_destroy"}


def module(name: str) -> Folder:
    return read(MODULES / name)


def found(value, path):
    """All values under a path of blocks, `*` for those of a dynamic one."""
    if not path:
        return [value]
    if isinstance(value, list):
        return [one for item in value for one in found(item, path)]
    step, rest = path[0], path[1:]
    if step == "*":
        return [one for item in value.get("dynamic", []) for one in found(item, rest)]
    return found(value[step], rest) if step in value else []


_PERIMETER = "google_access_context_manager_service_perimeter.this"
PROMISES = [
    ("services", "google_project_service.this", "disable_on_destroy", False),
    ("registry", "google_artifact_registry_repository.this", "docker_config.immutable_tags", True),
    ("registry", "google_artifact_registry_repository.this", "kms_key_name", "${var.kms_key}"),
    ("encryption", "google_kms_crypto_key.this", "lifecycle.prevent_destroy", True),
    ("encryption", "google_kms_crypto_key.this", "rotation_period", "${var.rotation_days * 24 * 3600}s"),
    ("trigger", "google_cloud_run_v2_service.this", "ingress", "INGRESS_TRAFFIC_INTERNAL_ONLY"),
    ("trigger", "google_cloud_run_v2_service.this", "template.scaling.max_instance_count", 1),
    ("trigger", "google_cloud_run_v2_service.this", "template.service_account", "${var.submitter}"),
    ("trigger", "google_cloud_run_v2_service_iam_member.invoker", "member", "serviceAccount:${var.invoker}"),
    ("trigger", "google_eventarc_trigger.this", "service_account", "${var.invoker}"),
    ("budget", "google_billing_budget.this", "threshold_rules.spend_basis", "FORECASTED_SPEND"),
    ("budget", "google_billing_budget.this", "amount.specified_amount.units", "${tostring(var.amount)}"),
    ("perimeter", _PERIMETER, "use_explicit_dry_run_spec", "${var.dry_run}"),
    ("perimeter", _PERIMETER, "*.spec.for_each", "${var.dry_run ? [true] : []}"),
    ("perimeter", _PERIMETER, "*.spec.content.restricted_services", "${var.restricted_services}"),
    ("perimeter", _PERIMETER, "*.status.for_each", "${var.dry_run ? [] : [true]}"),
    ("perimeter", _PERIMETER, "*.status.content.restricted_services", "${var.restricted_services}"),
    ("schedule", "google_cloud_scheduler_job.this", "http_target.oidc_token.service_account_email", "${var.invoker}"),
    ("schedule", "google_cloud_scheduler_job.this", "retry_config.retry_count", 3),
    ("encryption", "google_kms_crypto_key_iam_member.agents", "for_each", "${local.grants}"),
    ("encryption", "google_kms_crypto_key_iam_member.agents", "member", "serviceAccount:${each.value.agent}"),
]


@pytest.mark.parametrize(("name", "resource", "path", "value"), PROMISES)
def test_promise_is_kept(name, resource, path, value):
    assert found(module(name).resources[resource], path.split(".")) == [value]


# What docs/infra.md says, and the variable whose default makes it so.
NUMBERS = [
    ("temporary files after 7, ", "storage", "temporary_days", 7),
    ("other old versions after 30 ", "storage", "old_versions_days", 30),
    ("the newest 20 of each", "registry", "kept_versions", 20),
    ("others go after 90 days", "registry", "kept_days", 90),
]


@pytest.mark.parametrize(("said", "name", "variable", "value"), NUMBERS)
def test_number_of_the_document_is_the_one_that_counts(said, name, variable, value):
    assert said in (MODULES.parents[2] / "docs" / "infra.md").read_text()
    assert module(name).variables[variable]["default"] == value
    assert variable not in module("platform").modules[name]


def rules(bucket):
    """(what is done, when) of each rule of a bucket's lifecycle."""
    for rule in module("storage").resources[f"google_storage_bucket.{bucket}"]["lifecycle_rule"]:
        [action], [condition] = rule["action"], rule["condition"]
        yield action["type"], condition


def test_versions_and_temporary_files_go_when_the_document_says():
    old, unfinished = {"days_since_noncurrent_time": "${var.old_versions_days}"}, {"age": 7}
    dataflow, checkpoints = (f"${{local.runs_folder}}/{name}/" for name in ("dataflow", "checkpoints"))
    assert list(rules("images")) == [("Delete", old), ("AbortIncompleteMultipartUpload", unfinished)]
    assert list(rules("runs")) == [
        ("Delete", {"days_since_noncurrent_time": 1, "matches_prefix": [checkpoints, dataflow]}),
        ("Delete", old),
        ("Delete", {"age": "${var.temporary_days}", "matches_prefix": [dataflow]}),
        ("AbortIncompleteMultipartUpload", unfinished),
    ]


def test_images_are_kept_by_number_and_deleted_by_age():
    policies = module("registry").resources["google_artifact_registry_repository.this"]["cleanup_policies"]
    assert [policy["action"] for policy in policies] == ["KEEP", "DELETE"]
    assert found(policies[0], ["most_recent_versions", "keep_count"]) == ["${var.kept_versions}"]
    assert found(policies[1], ["condition", "older_than"]) == ["${var.kept_days * 24 * 3600}s"]


def test_perimeter_is_around_what_keeps_data_and_logs_only_at_first():
    variables = module("perimeter").variables
    assert {name.removesuffix(".googleapis.com") for name in variables["restricted_services"]["default"]} == {
        "aiplatform", "artifactregistry", "cloudkms", "dataflow", "storage",
    }  # fmt: skip
    assert variables["dry_run"]["default"] is True
    assert module("platform").modules["perimeter"]["dry_run"] == "${var.perimeter_dry_run}"
    assert module("platform").variables["perimeter_dry_run"]["default"] is True


def test_key_is_granted_to_googles_five_agents():
    agents = {name: grant["agent"] for name, grant in module("encryption").locals["grants"].items()}
    of_project = "service-${var.project_number}@%s.iam.gserviceaccount.com"
    assert agents == {
        "storage": "${data.google_storage_project_service_account.this.email_address}",
        "registry": of_project % "gcp-sa-artifactregistry",
        "vertex": of_project % "gcp-sa-aiplatform",
        "dataflow": of_project % "dataflow-service-producer-prod",
        "compute": of_project % "compute-system",
    }


def test_budget_mails_at_half_of_the_amount_nearly_all_and_all():
    assert module("budget").variables["thresholds"]["default"] == [0.5, 0.9, 1]


@pytest.mark.parametrize("bucket", ["images", "runs"])
def test_bucket_is_under_the_key(bucket):
    resource = module("storage").resources[f"google_storage_bucket.{bucket}"]
    assert found(resource, ["*", "encryption", "content", "default_kms_key_name"]) == ["${encryption.value}"]
    assert found(resource, ["*", "encryption", "for_each"]) == ["${var.kms_key == null ? [] : [var.kms_key]}"]


def test_platform_hands_on_what_a_module_would_otherwise_take_a_default_for():
    platform = module("platform")
    for name, block in platform.modules.items():
        assert set(module(name).variables) & HANDED_ON <= set(block), name
        for setting in ("kms_key", "labels"):
            assert block.get(setting) in (None, f"${{local.{setting}}}"), name
