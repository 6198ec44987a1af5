variable "project" {
  description = "Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "project_number" {
  description = "Number of the project, part of the service's address."
  type        = string
}

variable "region" {
  description = "Region of everything: Vertex AI reads and writes nowhere else."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like us-central1; zones and multi-regions are not regions."
  }
}

variable "image" {
  description = "Image of the service that starts runs; it listens on PORT."
  type        = string
}

variable "images_bucket" {
  description = "Bucket whose new objects are announced to the service."
  type        = string
}

variable "marker" {
  description = "Name of the object that says that an upload is whole; the service ignores all others."
  type        = string
  default     = "_SUCCESS"
}

variable "pipeline_root" {
  description = "gs:// folder of runs; the service finds the compiled pipeline in it."
  type        = string

  validation {
    condition     = can(regex("^gs://", var.pipeline_root))
    error_message = "The pipeline root is a gs:// folder."
  }
}

variable "submitter" {
  description = "E-mail of the service account that the service runs as."
  type        = string
}

variable "invoker" {
  description = "E-mail of the service account that may call the service."
  type        = string
}

variable "pipeline_account" {
  description = "E-mail of the service account that runs are started as."
  type        = string
}
