"""What is made of a task's image is kept under its key, and made anew where that changes."""

from __future__ import annotations

from backend.project.workplace import Workplace


def image_key(place: Workplace, value: object) -> str:
    """The image's address, as the task's data have it; where it was replaced there, also by what, as far as noticed.

    To be asked for after the image is loaded, as that may be the moment of noticing.
    """
    replacement = place.images.replaced(value)
    return str(value) if replacement is None else f"{value}\n{replacement.content}"
