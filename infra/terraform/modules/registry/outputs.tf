output "repository" {
  description = "Name of the repository."
  value       = google_artifact_registry_repository.this.repository_id
}

output "prefix" {
  description = "First part of an image's name."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.this.repository_id}"
}
