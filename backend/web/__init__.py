"""What answers while somebody waits: Label Studio (predictions, smart boxes, webhooks), and people (the page)."""
