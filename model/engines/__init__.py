"""Engines: Mask R-CNN implementations, all behind the protocol in `base`, and what they share."""
