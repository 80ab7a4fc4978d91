"""Detectron2's configs and weights, read without it, and the engine where it is installed."""
