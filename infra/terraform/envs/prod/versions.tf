terraform {
  required_version = ">= 1.7"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.14"
    }
  }

  # `terraform init -backend-config=bucket=NAME`: a bucket that exists before all of this, versioned.
  backend "gcs" {
    prefix = "simclr/prod"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # Budgets and perimeters belong to no project; the quota of this one is used for them.
  billing_project       = var.project
  user_project_override = true
}
