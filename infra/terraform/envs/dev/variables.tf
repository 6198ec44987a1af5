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
