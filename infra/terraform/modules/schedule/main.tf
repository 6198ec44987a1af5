# The clock calls the service that new data calls as well: one way to start a run.
resource "google_cloud_scheduler_job" "this" {
  project          = var.project
  region           = var.region
  name             = "simclr"
  description      = "Starts the SimCLR pipeline."
  schedule         = var.cron
  time_zone        = var.time_zone
  paused           = var.paused
  attempt_deadline = "180s"

  retry_config {
    retry_count = 3
  }

  http_target {
    http_method = "POST"
    uri         = "${var.uri}/run"

    oidc_token {
      service_account_email = var.invoker
      audience              = var.uri
    }
  }
}
