"""Annotation formats: one file per format over the neutral `Record`."""
