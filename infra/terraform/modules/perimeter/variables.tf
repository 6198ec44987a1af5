variable "access_policy" {
  description = "Number of the organisation's access policy."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+$", var.access_policy))
    error_message = "The number alone, without accessPolicies/."
  }
}

variable "project_number" {
  description = "Number of the project inside the perimeter."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+$", var.project_number))
    error_message = "The project's number, not its id."
  }
}

variable "name" {
  description = "Name of the perimeter."
  type        = string
  default     = "simclr"
}

variable "restricted_services" {
  description = "APIs whose data may not cross the perimeter."
  type        = list(string)

  default = [
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudkms.googleapis.com",
    "dataflow.googleapis.com",
    "storage.googleapis.com",
  ]
}

variable "access_levels" {
  description = "Access levels from which people reach in, accessPolicies/NUMBER/accessLevels/NAME."
  type        = list(string)
  default     = []
}

variable "dry_run" {
  description = "Whether violations are only logged. Begin with true: an enforced mistake locks everybody out."
  type        = bool
  default     = true
}
