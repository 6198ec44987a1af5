variable "project" {
  description = "Google Cloud project; one for each environment."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "us-central1"
}

variable "billing_account" {
  description = "Billing account of the budget, 000000-000000-000000."
  type        = string
  default     = null
}

variable "budget_emails" {
  description = "Who is told when the budget is nearly spent."
  type        = set(string)
  default     = []
}

variable "trigger_image" {
  description = "Image of the service that starts runs; null: no trigger and no schedule."
  type        = string
  default     = null
}

variable "cron" {
  description = "When a run starts, as in crontab."
  type        = string
  default     = "0 3 * * 1"
}

variable "access_policy" {
  description = "Number of the organisation's access policy; null: no perimeter."
  type        = string
  default     = null
}

variable "perimeter_dry_run" {
  description = "Whether the perimeter only logs what it would refuse; false once the log is quiet."
  type        = bool
  default     = true
}
