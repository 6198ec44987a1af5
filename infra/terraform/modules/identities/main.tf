# Who may do what, and why; the trigger's own two roles and those on the key are beside what they are for. Nobody is given
# owner or editor, and what a bucket, a repository or an account can carry is not granted on the project.
locals {
  # Where `make deploy` leaves the pipeline, as conditions name objects.
  deployed = "projects/_/buckets/${var.runs_bucket}/objects/${var.runs_folder}/deployed/"
  starter_permissions = [
    "aiplatform.pipelineJobs.create",
    "aiplatform.pipelineJobs.get",
    "aiplatform.pipelineJobs.list",
  ]

  accounts = {
    pipeline  = "Nodes of the pipeline and the workers of Pretrain"
    dataflow  = "Dataflow's workers"
    submitter = "The service that starts runs"
    invoker   = "Eventarc and Cloud Scheduler, to call that service"
    builder   = "Cloud Build: tests, images, compiled pipelines"
  }

  project_roles = {
    # The nodes call Vertex AI themselves.
    pipeline_vertex = {
      account = "pipeline"
      role    = "roles/aiplatform.user"
      reason  = "Pretrain's node starts a CustomJob and waits for it; VertexPusher registers and deploys models; RunSummary asks how the nodes went"
    }
    pipeline_dataflow = {
      account = "pipeline"
      role    = "roles/dataflow.developer"
      reason  = "ingestion, statistics, transform, split and leakage gate start Dataflow jobs and wait for them"
    }
    # Dataflow knows no narrower place than the project.
    dataflow_worker = {
      account = "dataflow"
      role    = "roles/dataflow.worker"
      reason  = "a worker takes work items, and writes logs and metrics of its job"
    }
    submitter_vertex = {
      account = "submitter"
      role    = google_project_iam_custom_role.starter.name
      reason  = "creates the pipeline job, and looks whether it exists already or another goes on"
    }
    # An account of one's own gets none of the rights of Cloud Build's default account.
    builder_vertex = {
      account = "builder"
      role    = "roles/aiplatform.user"
      reason  = "the last step of a build starts a run"
    }
    builder_logs = {
      account = "builder"
      role    = "roles/logging.logWriter"
      reason  = "a build under an account of its own writes its log itself"
    }
    invoker_events = {
      account = "invoker"
      role    = "roles/eventarc.eventReceiver"
      reason  = "Eventarc hands events over only as an account that may receive them"
    }
  }

  bucket_roles = {
    # Reading only: a fault of the pipeline cannot damage the images.
    pipeline_images = {
      account = "pipeline"
      bucket  = var.images_bucket
      role    = "roles/storage.objectViewer"
      reason  = "ingestion lists and reads the images"
    }
    dataflow_images = {
      account = "dataflow"
      bucket  = var.images_bucket
      role    = "roles/storage.objectViewer"
      reason  = "ingestion on Dataflow reads the images"
    }
    # objectUser, not objectAdmin: they need not say who may see an object.
    pipeline_runs = {
      account = "pipeline"
      bucket  = var.runs_bucket
      role    = "roles/storage.objectUser"
      reason  = "artifacts, checkpoints and pushed models; renaming deletes"
    }
    dataflow_runs = {
      account = "dataflow"
      bucket  = var.runs_bucket
      role    = "roles/storage.objectUser"
      reason  = "Beam writes shards and temporary files, and renames them"
    }
    # Of all objects it reads only that one; names it may list, or a missing one would look like a missing role.
    submitter_runs = {
      account = "submitter"
      bucket  = var.runs_bucket
      role    = "roles/storage.objectViewer"
      only    = "resource.type == \"storage.googleapis.com/Bucket\" || resource.name.startsWith(\"${local.deployed}\")"
      reason  = "reads the deployed pipeline"
    }
    builder_runs = {
      account = "builder"
      bucket  = var.runs_bucket
      role    = "roles/storage.objectUser"
      reason  = "deploys: leaves the compiled pipeline where the service finds it"
    }
    # Vertex AI's client asks which project the bucket belongs to before it submits; no object role allows that.
    pipeline_bucket = {
      account = "pipeline"
      bucket  = var.runs_bucket
      role    = "roles/storage.legacyBucketReader"
      reason  = "the client of Vertex AI looks at the bucket itself"
    }
    builder_bucket = {
      account = "builder"
      bucket  = var.runs_bucket
      role    = "roles/storage.legacyBucketReader"
      reason  = "the client of Vertex AI looks at the bucket itself"
    }
  }

  registry_roles = {
    builder_push = {
      account = "builder"
      role    = "roles/artifactregistry.writer"
      reason  = "pushes the images of a commit"
    }
    # Vertex AI pulls as its own agent, Dataflow's workers as themselves.
    dataflow_pull = {
      account = "dataflow"
      role    = "roles/artifactregistry.reader"
      reason  = "a worker pulls its image"
    }
  }

  # To start a job as an account needs leave of that account, not of the project.
  impersonations = {
    submitter_pipeline = {
      account = "submitter"
      target  = "pipeline"
      role    = "roles/iam.serviceAccountUser"
      reason  = "starts pipeline jobs that run as the pipeline's account"
    }
    builder_pipeline = {
      account = "builder"
      target  = "pipeline"
      role    = "roles/iam.serviceAccountUser"
      reason  = "starts pipeline jobs that run as the pipeline's account"
    }
    pipeline_pipeline = {
      account = "pipeline"
      target  = "pipeline"
      role    = "roles/iam.serviceAccountUser"
      reason  = "Pretrain's CustomJob runs as the account of its node"
    }
    pipeline_dataflow = {
      account = "pipeline"
      target  = "dataflow"
      role    = "roles/iam.serviceAccountUser"
      reason  = "Dataflow jobs run as Dataflow's account"
    }
  }
}

# The one account that answers calls from outside: aiplatform.user would let it register models and read every dataset.
resource "google_project_iam_custom_role" "starter" {
  project     = var.project
  role_id     = "simclrStarter"
  title       = "Starts SimCLR's runs"
  description = "What infra/trigger asks of Vertex AI."
  permissions = local.starter_permissions
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = var.project
  account_id   = "simclr-${each.key}"
  display_name = each.value
}

resource "google_project_iam_member" "this" {
  for_each = local.project_roles

  project = var.project
  role    = each.value.role
  member  = google_service_account.this[each.value.account].member
}

resource "google_storage_bucket_iam_member" "this" {
  for_each = local.bucket_roles

  bucket = each.value.bucket
  role   = each.value.role
  member = google_service_account.this[each.value.account].member

  dynamic "condition" {
    for_each = compact([lookup(each.value, "only", "")])
    content {
      title      = each.key
      expression = condition.value
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "this" {
  for_each = local.registry_roles

  project    = var.project
  location   = var.region
  repository = var.repository
  role       = each.value.role
  member     = google_service_account.this[each.value.account].member
}

resource "google_service_account_iam_member" "this" {
  for_each = local.impersonations

  service_account_id = google_service_account.this[each.value.target].name
  role               = each.value.role
  member             = google_service_account.this[each.value.account].member
}
