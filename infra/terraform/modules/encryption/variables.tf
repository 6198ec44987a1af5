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

variable "project_number" {
  description = "Number of the project, which is in the names of Google's service agents."
  type        = string
}

variable "rotation_days" {
  description = "Days after which a new version of the key is made; the old ones still decrypt."
  type        = number
  default     = 90

  validation {
    condition     = var.rotation_days >= 1
    error_message = "The key rotates after at least 1 day."
  }
}
