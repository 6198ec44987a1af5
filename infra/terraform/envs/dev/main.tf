# To try things: small budget, no key of our own, no schedule, and everything can be destroyed.
module "platform" {
  source = "../../modules/platform"

  environment     = "dev"
  project         = var.project
  region          = var.region
  billing_account = var.billing_account
  budget_amount   = 200
  budget_emails   = var.budget_emails
  force_destroy   = true
  trigger_image   = var.trigger_image
}
