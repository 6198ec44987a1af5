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
    # One at a time: two events of one upload must not start two runs.
    max_instance_request_concurrency = 1

    scaling {
      max_instance_count = 1
    }

    containers {
      image = var.image

      env {
        name  = "PROJECT"
        value = var.project
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
        name  = "MARKER"
        value = var.marker
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

# Eventarc cannot filter by an object's name: every new object calls the service, which looks for the marker.
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
