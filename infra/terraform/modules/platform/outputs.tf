output "vertex" {
  description = "What to write into the `vertex` section of a run's configuration; the image needs its commit as tag."
  value = {
    project         = var.project
    region          = var.region
    pipeline_root   = module.storage.pipeline_root
    image           = "${module.registry.prefix}/pipeline"
    service_account = module.identities.emails["pipeline"]
    kms_key         = local.kms_key
  }
}

output "dataflow_account" {
  description = "What to write into `beam.dataflow.service_account`."
  value       = module.identities.emails["dataflow"]
}

output "builder_account" {
  description = "Cloud Build's account, _BUILDER in its substitutions."
  value       = module.identities.emails["builder"]
}

output "images_bucket" {
  description = "Where images go."
  value       = module.storage.images_bucket
}

output "trigger" {
  description = "Address of the service that starts runs; null without one."
  value       = one(module.trigger[*].uri)
}

output "reasons" {
  description = "Why each role is granted."
  value = merge(
    module.identities.reasons,
    one(module.trigger[*].reasons),
    one(module.encryption[*].reasons),
  )
}
