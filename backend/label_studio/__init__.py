"""Label Studio's side: its API, its images, and its regions in both directions."""
