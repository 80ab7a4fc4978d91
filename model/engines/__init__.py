"""Engines: one Mask R-CNN implementation per file, all behind the protocol in `base`."""
