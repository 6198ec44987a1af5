variable "project" {
  description = "Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "services" {
  description = "APIs to enable, with what needs each."
  type        = map(string)

  default = {
    "aiplatform.googleapis.com"           = "the pipeline's jobs, its training, the model registry and endpoints"
    "artifactregistry.googleapis.com"     = "the images"
    "billingbudgets.googleapis.com"       = "the budget"
    "cloudbuild.googleapis.com"           = "tests and images from a commit"
    "cloudkms.googleapis.com"             = "the customer-managed key, where there is one"
    "cloudresourcemanager.googleapis.com" = "Vertex AI's client looks up the number of the project"
    "cloudscheduler.googleapis.com"       = "runs by the clock"
    "compute.googleapis.com"              = "the machines of Dataflow"
    "dataflow.googleapis.com"             = "Beam's workers"
    "eventarc.googleapis.com"             = "runs on new data"
    "iam.googleapis.com"                  = "the service accounts"
    "logging.googleapis.com"              = "the logs of all of them"
    "monitoring.googleapis.com"           = "the addresses of the budget's alerts"
    "pubsub.googleapis.com"               = "carries Eventarc's events"
    "run.googleapis.com"                  = "the service that starts runs"
    "storage.googleapis.com"              = "images in, runs out"
  }
}
