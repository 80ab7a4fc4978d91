"""Where an image stands in a task's data: the `value` of a tag, evaluated as Label Studio's editor does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from backend.errors import BadLabelConfig

VARIABLE = re.compile(r"\$[\w\[\].{}]+", re.ASCII)
"""What the editor replaces in a value; its expression, letter by letter."""

MEND = "in the project's settings under Labeling Interface"


@dataclass(frozen=True)
class ImageValue:
    """The `value` of an Image tag: `$image`, `$photo.url`, `$images[0]`, or text around such variables."""

    text: str

    def of(self, data: Mapping[str, Any]) -> Any:
        """What a task's data holds there; usually an address, None if nothing."""
        if VARIABLE.fullmatch(self.text):
            return _look_up(data, self.text[1:])
        return VARIABLE.sub(lambda variable: _as_text(_look_up(data, variable[0][1:])), self.text)

    def data_with(self, address: str) -> dict[str, Any]:
        """A new task's data with an image at that address; BadLabelConfig if no data gives it."""
        variables = list(VARIABLE.finditer(self.text))
        if len(variables) == 1:
            before, after = self.text[: variables[0].start()], self.text[variables[0].end() :]
            if address.startswith(before) and address.endswith(after) and len(before + after) < len(address):
                value = address[len(before) : len(address) - len(after)]
                return {**_nested(_steps(variables[0][0][1:]), value)}
        raise BadLabelConfig(
            f"the labelling config makes image addresses by value={self.text!r}, of which {address!r} is none; write "
            f'value="$image" {MEND}'
        )


def first_image(elements: Sequence[ElementTree.Element], used: Collection[str]) -> tuple[ImageValue, tuple[str, ...]]:
    """Of the first Image that shapes are drawn on: its value, and the names of the tags that show the same.

    BadLabelConfig if there is none, or if its value says less than which image of a task it is.
    """
    images = [element for element in elements if element.tag == "Image"]
    first = next((image for image in images if image.get("name") in used), None)
    if first is None:
        raise BadLabelConfig(
            'the labelling config has no Image that its controls point to; add <Image name="image" value="$image"/> '
            f'and toName="image" {MEND}'
        )
    name, value = first.get("name"), first.get("value") or ""
    repeated = {id(inner) for element in elements if element.tag == "Repeater" for inner in element.iter()}
    if first.get("valueList") or first.get("valuelist"):
        raise BadLabelConfig(
            f"the Image {name!r} has a valueList, and pages of one task are not learned from; make a task of each "
            f'image and write value="$image" {MEND}'
        )
    if id(first) in repeated or "{{" in value:
        raise BadLabelConfig(
            f"the Image {name!r} stands in a Repeater ({value}), and images of one task that vary in number are not "
            f'learned from; make a task of each image and write <Image name="image" value="$image"/> {MEND}'
        )
    if not VARIABLE.search(value):
        raise BadLabelConfig(
            f"the Image {name!r} has value={value!r}, which names no key of a task's data; write "
            f'value="$image" with the key that holds the image {MEND}'
        )
    same = [str(image.get("name")) for image in images if image.get("value") == first.get("value")]
    return ImageValue(value), tuple(same)


def _look_up(data: Mapping[str, Any], path: str) -> Any:
    """What the data hold under a name with dots and brackets, or step by step; None if nothing."""
    if path in data:
        return data[path]
    found: Any = data
    for step in _steps(path):
        if isinstance(found, Mapping):
            found = found.get(str(step))
        elif isinstance(found, list) and isinstance(step, int):
            found = found[step] if step < len(found) else None
        else:
            return None
    return found


def _steps(path: str) -> list[str | int]:
    """`photos[0].url` as keys and indices."""
    return [int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", path)]


def _nested(steps: Sequence[str | int], value: str) -> Any:
    """Objects and lists with a value at the end of those steps."""
    if not steps:
        return value
    inner = _nested(steps[1:], value)
    return [None] * steps[0] + [inner] if isinstance(steps[0], int) else {steps[0]: inner}


def _as_text(value: Any) -> str:
    """A value within a text, as JavaScript writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
