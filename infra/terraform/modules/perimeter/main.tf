resource "google_access_context_manager_service_perimeter" "this" {
  parent                    = "accessPolicies/${var.access_policy}"
  name                      = "accessPolicies/${var.access_policy}/servicePerimeters/${var.name}"
  title                     = var.name
  use_explicit_dry_run_spec = var.dry_run

  dynamic "spec" {
    for_each = var.dry_run ? [true] : []
    content {
      resources           = ["projects/${var.project_number}"]
      restricted_services = var.restricted_services
      access_levels       = var.access_levels
    }
  }

  dynamic "status" {
    for_each = var.dry_run ? [] : [true]
    content {
      resources           = ["projects/${var.project_number}"]
      restricted_services = var.restricted_services
      access_levels       = var.access_levels
    }
  }
}
