output "emails" {
  description = "E-mail of each service account, by what it is for."
  value       = { for name, account in google_service_account.this : name => account.email }
}

output "reasons" {
  description = "Why each account has each of its roles."
  value = {
    for name, grant in merge(
      { for name, grant in local.project_roles : "project/${name}" => grant },
      { for name, grant in local.bucket_roles : "bucket/${name}" => grant },
      { for name, grant in local.registry_roles : "registry/${name}" => grant },
      { for name, grant in local.impersonations : "account/${name}" => grant },
    ) : "${name}: ${grant.role}" => grant.reason
  }
}
