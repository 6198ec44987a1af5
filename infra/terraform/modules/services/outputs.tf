output "enabled" {
  description = "Names of the enabled APIs; depend on it to be created after them."
  value       = sort([for service in google_project_service.this : service.service])
}
