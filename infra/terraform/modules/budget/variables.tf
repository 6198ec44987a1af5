variable "project" {
  description = "Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "project_number" {
  description = "Number of the project, by which a budget knows it."
  type        = string
}

variable "billing_account" {
  description = "Billing account, 000000-000000-000000."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "A billing account is three groups of six hexadecimal digits."
  }
}

variable "amount" {
  description = "Whole units of the billing account's currency a month."
  type        = number

  validation {
    condition     = var.amount >= 1 && floor(var.amount) == var.amount
    error_message = "Give a whole number, at least 1."
  }
}

variable "thresholds" {
  description = "Parts of the amount at which a mail is sent."
  type        = list(number)
  default     = [0.5, 0.9, 1]

  validation {
    condition     = length(var.thresholds) > 0 && alltrue([for part in var.thresholds : part > 0])
    error_message = "Give at least one part above 0, such as 0.5."
  }
}

variable "emails" {
  description = "Who is told, besides the administrators of the billing account; at most five."
  type        = set(string)
  default     = []

  validation {
    condition     = length(var.emails) <= 5
    error_message = "A budget takes at most five channels."
  }
}
