# How the modules hang together; dev and prod differ in what they give to it.
data "google_project" "this" {
  project_id = var.project
}

locals {
  labels = {
    app         = "simclr"
    environment = var.environment
  }
  kms_key = one(module.encryption[*].key)
}

module "services" {
  source = "../services"

  project = var.project
}

module "encryption" {
  source = "../encryption"
  count  = var.customer_managed_key ? 1 : 0

  project        = var.project
  region         = var.region
  project_number = data.google_project.this.number

  depends_on = [module.services]
}

module "storage" {
  source = "../storage"

  project       = var.project
  region        = var.region
  prefix        = var.project
  kms_key       = local.kms_key
  labels        = local.labels
  force_destroy = var.force_destroy

  depends_on = [module.services]
}

module "registry" {
  source = "../registry"

  project = var.project
  region  = var.region
  kms_key = local.kms_key
  labels  = local.labels

  depends_on = [module.services]
}

module "identities" {
  source = "../identities"

  project       = var.project
  region        = var.region
  images_bucket = module.storage.images_bucket
  runs_bucket   = module.storage.runs_bucket
  runs_folder   = module.storage.runs_folder
  repository    = module.registry.repository

  depends_on = [module.services]
}

module "trigger" {
  source = "../trigger"
  count  = var.trigger_image == null ? 0 : 1

  project          = var.project
  project_number   = data.google_project.this.number
  region           = var.region
  image            = var.trigger_image
  images_bucket    = module.storage.images_bucket
  pipeline_root    = module.storage.pipeline_root
  submitter        = module.identities.emails["submitter"]
  invoker          = module.identities.emails["invoker"]
  pipeline_account = module.identities.emails["pipeline"]

  # Eventarc refuses a trigger whose account may not receive events.
  depends_on = [module.identities]
}

module "schedule" {
  source = "../schedule"
  count  = var.trigger_image == null || var.cron == null ? 0 : 1

  project = var.project
  region  = var.region
  cron    = var.cron
  uri     = module.trigger[0].uri
  invoker = module.identities.emails["invoker"]
}

module "budget" {
  source = "../budget"
  count  = var.billing_account == null ? 0 : 1

  project         = var.project
  project_number  = data.google_project.this.number
  billing_account = var.billing_account
  amount          = var.budget_amount
  emails          = var.budget_emails

  depends_on = [module.services]
}

module "perimeter" {
  source = "../perimeter"
  count  = var.access_policy == null ? 0 : 1

  access_policy  = var.access_policy
  project_number = data.google_project.this.number
  dry_run        = var.perimeter_dry_run
}
