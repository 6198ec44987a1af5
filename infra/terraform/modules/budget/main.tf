resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project
  display_name = "Budget: ${each.key}"
  type         = "email"
  labels = {
    email_address = each.key
  }
}

# It warns and stops nothing: a training that is cut off would have cost all the same.
resource "google_billing_budget" "this" {
  billing_account = var.billing_account
  display_name    = "SimCLR in ${var.project}"

  budget_filter {
    projects = ["projects/${var.project_number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = var.thresholds
    content {
      threshold_percent = threshold_rules.value
    }
  }

  # Before the money is gone rather than after.
  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  dynamic "all_updates_rule" {
    for_each = length(var.emails) == 0 ? [] : [true]
    content {
      monitoring_notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
    }
  }
}
