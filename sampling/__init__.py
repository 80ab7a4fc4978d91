"""Scoring by Monte-Carlo dropout and choosing what to annotate next; needs only torch and numpy."""
