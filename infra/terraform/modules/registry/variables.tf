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

variable "name" {
  description = "Name of the repository."
  type        = string
  default     = "simclr"
}

variable "labels" {
  description = "Labels of the repository, for the bill."
  type        = map(string)
  default     = {}
}

variable "kept_versions" {
  description = "Newest versions of each image that are always kept."
  type        = number
  default     = 20

  validation {
    condition     = var.kept_versions >= 1
    error_message = "Keep at least 1 version: the newest run needs its image."
  }
}

variable "kept_days" {
  description = "Days after which older versions go."
  type        = number
  default     = 90

  validation {
    condition     = var.kept_days >= 1
    error_message = "Keep versions at least 1 day."
  }
}
