"""How good a version is, and whether it may be served."""
