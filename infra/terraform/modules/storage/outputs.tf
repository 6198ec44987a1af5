output "images_bucket" {
  description = "Name of the bucket of images."
  value       = google_storage_bucket.images.name
}

output "runs_bucket" {
  description = "Name of the bucket of runs."
  value       = google_storage_bucket.runs.name
}

output "pipeline_root" {
  description = "What to write into `vertex.pipeline_root`; the lifecycle rules name its folders."
  value       = "gs://${google_storage_bucket.runs.name}/runs"
}
