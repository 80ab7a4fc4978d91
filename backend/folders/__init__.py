"""Folders of images and other tools' annotation files: auto-annotate, import, export."""
