"""Numbers of things as people say them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun, which takes a plain s: 1 image, 2 images."""
    return f"{count} {noun}{'s' * (count != 1)}"
