output "key" {
  description = "The key, for `vertex.kms_key` too; known once its users may use it."
  value       = google_kms_crypto_key.this.id
  depends_on  = [google_kms_crypto_key_iam_member.agents]
}

output "reasons" {
  description = "Why each agent has its role on the key."
  value       = { for name, grant in local.grants : "${name}: ${grant.role}" => grant.reason }
}
