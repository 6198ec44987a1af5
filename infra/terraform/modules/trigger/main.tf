data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  grants = {
    call = {
      role   = "roles/run.invoker"
      reason = "Eventarc and Cloud Scheduler call the service, on this service only"
    }
    publish = {
      role   = "roles/pubsub.publisher"
      reason = "Cloud Storage announces new objects through a topic that Eventarc makes, so on the project"
    }
  }
}

resource "google_cloud_run_v2_service" "this" {
  project             = var.project
  name                = "simclr-trigger"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = false

  template {
    service_account = var.submitter
    timeout         = "120s"
    # One instance: starts wait for each other in its process, so that no run is started beside another. As many requests
    # at once as it has threads.
    max_instance_request_concurrency = 8

    scaling {
      max_instance_count = 1
    }

    containers {
      image = var.image

      resources {
        limits = {
          cpu    = "1"
          memory = "512Mi"
        }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      startup_probe {
        http_get {
          path = "/health"
        }
        period_seconds    = 5
        timeout_seconds   = 4
        failure_threshold = 12
      }

      env {
        name  = "PROJECT"
        value = var.project
      }
      # Part of the service's address, which it cannot be told before it is made, and which tokens are meant for.
      env {
        name  = "PROJECT_NUMBER"
        value = var.project_number
      }
      env {
        name  = "REGION"
        value = var.region
      }
      env {
        name  = "PIPELINE_ROOT"
        value = var.pipeline_root
      }
      env {
        name  = "SERVICE_ACCOUNT"
        value = var.pipeline_account
      }
      env {
        name  = "IMAGES_BUCKET"
        value = var.images_bucket
      }
      env {
        name  = "MARKER"
        value = var.marker
      }
      env {
        name  = "INVOKER"
        value = var.invoker
      }
      # Cloud Run checks each token against the role below, and may hand it on without its signature. Say refuse before the
      # service is ever opened to callers whom Cloud Run does not check.
      env {
        name  = "REMOVED_SIGNATURES"
        value = "accept"
      }
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.this.name
  role     = local.grants.call.role
  member   = "serviceAccount:${var.invoker}"
}

resource "google_project_iam_member" "publisher" {
  project = var.project
  role    = local.grants.publish.role
  member  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

# Eventarc cannot filter by an object's name: every new object calls the service, which looks for the marker. What is not
# answered with 2xx is delivered again for a day, after waits of up to ten minutes; see docs/infra.md.
resource "google_eventarc_trigger" "this" {
  project         = var.project
  name            = "simclr-new-images"
  location        = var.region
  service_account = var.invoker

  matching_criteria {
    attribute = "type"
    value     = "google.cloud.storage.object.v1.finalized"
  }

  matching_criteria {
    attribute = "bucket"
    value     = var.images_bucket
  }

  destination {
    cloud_run_service {
      service = google_cloud_run_v2_service.this.name
      region  = var.region
      path    = "/new-data"
    }
  }

  depends_on = [google_project_iam_member.publisher, google_cloud_run_v2_service_iam_member.invoker]
}
