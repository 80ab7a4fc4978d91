"""Mask R-CNN engines, training, evaluation and the registry; knows nothing of the web or of Label Studio."""
