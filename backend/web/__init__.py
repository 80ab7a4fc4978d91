"""What answers Label Studio while somebody waits: predictions, smart boxes, webhooks."""
