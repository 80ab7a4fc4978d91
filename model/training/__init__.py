"""Training an engine on annotated images."""
