resource "google_project_service" "this" {
  for_each = var.services

  project = var.project
  service = each.key

  # Others may live in the project: what they use too is not switched off under them.
  disable_on_destroy = false
}
