resource "google_artifact_registry_repository" "this" {
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "Images of the SimCLR pipeline, tagged with the commit that they were built from."
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  # A tag is a commit: what a finished run used cannot be replaced under its name.
  docker_config {
    immutable_tags = true
  }

  # An image is a few GB. What a policy keeps, none deletes.
  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = var.kept_versions
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "${var.kept_days * 24 * 3600}s"
    }
  }
}
