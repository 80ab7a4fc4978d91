"""Strategies compared on images whose annotations are all known."""
