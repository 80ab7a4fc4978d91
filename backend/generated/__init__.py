"""Images that are drawn instead of photographed, with exact masks."""
