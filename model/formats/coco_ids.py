"""The ids of COCO files: numbers, which some tools write as text, and only in some places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from model.errors import BadRecord

T = TypeVar("T")


def key_of(number: Any) -> str:
    """An id as it is compared: 7, 7.0 and "7" are the same."""
    return str(int(number) if isinstance(number, float) and number.is_integer() else number).strip()


def with_id(entries: Mapping[str, T], annotation: Mapping[str, Any], key: str) -> T:
    """The image or category that an annotation means by its `key`; BadRecord if the file has none of that id."""
    number = annotation[key]
    if key_of(number) not in entries:
        raise BadRecord(f"its {key} {number!r} stands for nothing in the file; correct it or delete the annotation")
    return entries[key_of(number)]


def shown_id(entry: Any) -> Any:
    """What a problem calls an image, an annotation or a category."""
    return entry.get("id", "without id") if isinstance(entry, dict) else repr(entry)
