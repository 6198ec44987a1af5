output "job" {
  description = "Name of the schedule."
  value       = google_cloud_scheduler_job.this.name
}
