# Runs by the clock and on new data, under a key of our own; buckets that hold objects are not destroyed.
module "platform" {
  source = "../../modules/platform"

  environment          = "prod"
  project              = var.project
  region               = var.region
  billing_account      = var.billing_account
  budget_amount        = 5000
  budget_emails        = var.budget_emails
  customer_managed_key = true
  access_policy        = var.access_policy
  perimeter_dry_run    = var.perimeter_dry_run
  trigger_image        = var.trigger_image
  cron                 = var.cron
}
