output "images_bucket" {
  description = "Name of the bucket of images."
  value       = google_storage_bucket.images.name
}

output "runs_bucket" {
  description = "Name of the bucket of runs."
  value       = google_storage_bucket.runs.name
}

output "runs_folder" {
  description = "Folder of that bucket that is the pipeline root."
  value       = local.runs_folder
}

output "pipeline_root" {
  description = "What to write into `vertex.pipeline_root`."
  value       = "gs://${google_storage_bucket.runs.name}/${local.runs_folder}"
}
