output "platform" {
  description = "What a run's configuration and Cloud Build's substitutions take from here."
  value       = module.platform
}
