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

variable "environment" {
  description = "Which of the environments it is; part of labels."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "Give dev or prod."
  }
}

variable "billing_account" {
  description = "Billing account of the budget, 000000-000000-000000; null: no budget."
  type        = string
  default     = null
}

variable "budget_amount" {
  description = "Whole units of the billing account's currency a month."
  type        = number
  default     = 500
}

variable "budget_emails" {
  description = "Who is told when the budget is nearly spent."
  type        = set(string)
  default     = []
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes buckets that still hold objects."
  type        = bool
  default     = false
}

variable "customer_managed_key" {
  description = "Whether a key of our own encrypts buckets, images and jobs."
  type        = bool
  default     = false
}

variable "access_policy" {
  description = "Number of the organisation's access policy; null: no perimeter."
  type        = string
  default     = null
}

variable "perimeter_dry_run" {
  description = "Whether the perimeter only logs what it would refuse."
  type        = bool
  default     = true
}

variable "trigger_image" {
  description = "Image of the service that starts runs; null: no trigger and no schedule."
  type        = string
  default     = null
}

variable "cron" {
  description = "When a run starts, as in crontab; null: only on new data and by hand."
  type        = string
  default     = null
}
