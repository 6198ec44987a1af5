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

variable "cron" {
  description = "When a run starts, as in crontab."
  type        = string

  validation {
    condition     = length(split(" ", var.cron)) == 5
    error_message = "Five fields: minute, hour, day, month, weekday; such as 0 3 * * 1."
  }
}

variable "time_zone" {
  description = "Time zone of the schedule."
  type        = string
  default     = "Etc/UTC"
}

variable "paused" {
  description = "Whether the schedule waits."
  type        = bool
  default     = false
}

variable "uri" {
  description = "Address of the service that starts runs."
  type        = string

  validation {
    condition     = can(regex("^https://", var.uri))
    error_message = "The address begins with https://."
  }
}

variable "invoker" {
  description = "E-mail of the service account that may call the service."
  type        = string
}
