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

variable "kms_key" {
  description = "Customer-managed key, projects/.../cryptoKeys/NAME; null: Google manages the key."
  type        = string
  default     = null
}

variable "prefix" {
  description = "First part of the buckets' names, which are unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.prefix))
    error_message = "The prefix has 3 to 42 lower-case letters, digits and hyphens."
  }
}

variable "labels" {
  description = "Labels of the buckets, for the bill."
  type        = map(string)
  default     = {}
}

variable "old_versions_days" {
  description = "Days that an overwritten or deleted object can still be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.old_versions_days >= 1
    error_message = "Give at least 1 day; without versions a deleted image is gone."
  }
}

variable "temporary_days" {
  description = "Days until Dataflow's temporary files go."
  type        = number
  default     = 7

  validation {
    condition     = var.temporary_days >= 7
    error_message = "Give at least 7 days: a job that still runs reads its temporary files."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes buckets that still hold objects."
  type        = bool
  default     = false
}
