variable "project" {
  description = "Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Region of everything: Vertex AI reads and writes nowhere else."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like us-central1; zones and multi-regions are not regions."
  }
}

variable "images_bucket" {
  description = "Bucket of images: read, never written, by what is made here."
  type        = string
}

variable "runs_bucket" {
  description = "Bucket of runs: read and written."
  type        = string
}

variable "runs_folder" {
  description = "Folder of the bucket that is the pipeline root."
  type        = string
}

variable "repository" {
  description = "Artifact Registry repository of the images."
  type        = string
}
