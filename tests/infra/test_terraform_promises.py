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


_PERIMETER = "google_access_context_manager_service_perimeter"
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
    (
        "perimeter",
        "google_access_context_manager_service_perimeter.this",
        "use_explicit_dry_run_spec",
        "${var.dry_run}",
    ),
    ("schedule", "google_cloud_scheduler_job.this", "http_target.oidc_token.service_account_email", "${var.invoker}"),
]


@pytest.mark.parametrize(("name", "resource", "path", "value"), PROMISES)
def test_promise_is_kept(name, resource, path, value):
    assert found(module(name).resources[resource], path.split(".")) == [value]


def test_budget_mails_at_half_of_the_amount_nearly_all_and_all():
    assert module("budget").variables["thresholds"]["default"] == [0.5, 0.9, 1]


@pytest.mark.parametrize("bucket", ["images", "runs"])
def test_bucket_is_under_the_key_and_deletes_nothing_that_is_current_but_temporary_files(bucket):
    resource = module("storage").resources[f"google_storage_bucket.{bucket}"]
    assert found(resource, ["*", "encryption", "content", "default_kms_key_name"]) == ["${encryption.value}"]
    assert found(resource, ["*", "encryption", "for_each"]) == ["${var.kms_key == null ? [] : [var.kms_key]}"]
    for rule in resource["lifecycle_rule"]:
        [action], [condition] = rule["action"], rule["condition"]
        temporary = condition.get("matches_prefix") == ["${local.runs_folder}/dataflow/"]
        old = "days_since_noncurrent_time" in condition
        assert action["type"] == "AbortIncompleteMultipartUpload" or old or (bucket == "runs" and temporary), rule


def test_platform_hands_on_what_a_module_would_otherwise_take_a_default_for():
    platform = module("platform")
    for name, block in platform.modules.items():
        assert set(module(name).variables) & HANDED_ON <= set(block), name
        for setting in ("kms_key", "labels"):
            assert block.get(setting) in (None, f"${{local.{setting}}}"), name
