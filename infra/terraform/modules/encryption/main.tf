data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  # Google's own agents, not our accounts: each encrypts what its service keeps for us.
  grants = {
    storage = {
      agent  = data.google_storage_project_service_account.this.email_address
      role   = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
      reason = "the buckets' objects"
    }
    registry = {
      agent  = "service-${var.project_number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
      role   = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
      reason = "the images"
    }
    vertex = {
      agent  = "service-${var.project_number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
      role   = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
      reason = "pipeline jobs, training disks, models and endpoints"
    }
    dataflow = {
      agent  = "service-${var.project_number}@dataflow-service-producer-prod.iam.gserviceaccount.com"
      role   = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
      reason = "the state of a Dataflow job"
    }
    compute = {
      agent  = "service-${var.project_number}@compute-system.iam.gserviceaccount.com"
      role   = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
      reason = "the disks of Dataflow's workers"
    }
  }
}

resource "google_kms_key_ring" "this" {
  project  = var.project
  name     = "simclr"
  location = var.region
}

resource "google_kms_crypto_key" "this" {
  name            = "simclr"
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "${var.rotation_days * 24 * 3600}s"

  # Without the key every image and every model is lost.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "agents" {
  for_each = local.grants

  crypto_key_id = google_kms_crypto_key.this.id
  role          = each.value.role
  member        = "serviceAccount:${each.value.agent}"
}
