output "uri" {
  description = "Address of the service."
  value       = google_cloud_run_v2_service.this.uri
}

output "reasons" {
  description = "Why each role is granted."
  value       = { for grant in local.grants : grant.role => grant.reason }
}
