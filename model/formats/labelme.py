"""LabelMe JSON, versions 4 to 7 (https://github.com/wkentaro/labelme): one file beside each image.

Shapes with the same group_id and label are parts of one object, those with group_id null an object each. Holes are
written as keyholes: a ring that walks to the hole and back, which every version draws and which covers the same
pixels.

X-AnyLabeling's files are read too: its turned boxes ("rotation") and the scores of its models. A score is written
where there is one.

No library: the `labelme` package wants a desktop (Qt), pulls in onnxruntime, knows no objects of several parts, gives
up a whole file for one broken shape, and needs the image to read its annotations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import BadRecord
from model.files import read_json, write_json
from model.formats.images import Found, ImageElsewhere, ImageFinder
from model.formats.layout import annotation_files, beside, claimed, root_of, written_path
from model.formats.losses import with_losses
from model.formats.masks import decode_base64, decode_png, mask_parts
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, Remark, noted, problem_line
from model.formats.shapes import ellipse, rectangle, ring
from model.geometry import keyhole
from model.image_files import suffix_of
from model.records import Outline, Polygon, Record

VERSION = "5.4.1"  # whose files ours are like; readers of all versions take them
SUFFIX = ".json"
DECIMALS = 3  # of written coordinates, in pixels

NO_OBJECTS = ("_background_", "__background__", "__ignore__")
"""LabelMe's labels for holes, and for what shall not count."""

Shape = dict[str, Any]
Size = tuple[int, int]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each JSON file of a folder, or of one file; what is broken is told to `on_problem`."""
    finder = ImageFinder(root_of(source), images)
    for path in annotation_files(source, SUFFIX, on_problem):
        with noted(on_problem, path):
            yield with_losses(partial(_record, path, finder), on_problem)


def write(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write `a.json` beside where `a.jpg` lies in the folder; other files there stay.

    Raises BadRecord for a label that is not among the classes, and where the file belongs to another image.
    """
    for record in records:
        check_labels(record, classes)
        image = written_path(folder, record.image)
        path = claimed(folder / beside(record.image, SUFFIX), image.name, image_of)
        shapes = [shape for number, outline in enumerate(record.outlines, 1) for shape in _shapes(outline, number)]
        height, width = record.size_hw
        content: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": image.name}
        write_json(path, content | {"imageData": None, "imageHeight": height, "imageWidth": width})


def image_of(path: Path) -> str:
    """The name of the image that a file annotates; KeyError, TypeError, ValueError or OSError if it does not."""
    return str(read_json(path)["imagePath"])


def embedded_image(folder: Path, image: str) -> bytes | None:
    """The image file that the JSON beside where `image` would lie holds; None if there is none or it is broken."""
    try:
        data = read_json(folder / beside(image, SUFFIX)).get("imageData")
        return decode_base64(data) if data else None
    except (OSError, ValueError, AttributeError, BadRecord):
        return None


def _record(path: Path, finder: ImageFinder, on_problem: OnProblem) -> Record:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise BadRecord("wanted LabelMe JSON with 'shapes' and 'imagePath', got other JSON; take it out of the folder")
    image, size_hw = _image(content, path, finder, on_problem)
    pieces: list[Piece] = []
    for number, shape in enumerate(content["shapes"], start=1):
        label = shape.get("label") if isinstance(shape, dict) else None
        with noted(on_problem, path, f"shape {number} ({label})"):
            is_box = shape.get("shape_type") == "rectangle"
            if label in NO_OBJECTS:
                mend = "draw the object below it without that part and delete it"
                raise BadRecord(f"LabelMe's label for what is no object; it is left out ({mend})")
            parts = _parts(shape, size_hw)
            pieces.append(Piece(shape["label"], parts, shape.get("group_id"), shape.get("score"), is_box=is_box))
    return Record(image, size_hw, join(pieces))


def _image(content: dict[str, Any], path: Path, finder: ImageFinder, on_problem: OnProblem) -> tuple[str, Size]:
    """Name and size of the image; one that only the file holds is named after it, wherever it came from.

    Where neither is there, the image beside the file that has its name is taken, as after both were renamed.
    """
    size, embedded = (content.get("imageHeight"), content.get("imageWidth")), None
    found = _named(content, path, finder, on_problem)
    if content.get("imageData") and found.path is None:
        embedded = decode_base64(content["imageData"])
        suffix = suffix_of(embedded)
        if suffix or not found.name:
            found = finder.find(f"{path.stem}{suffix}", (path.parent,))
    return found.name, finder.size_hw(found, *size, embedded)


def _named(content: dict[str, Any], path: Path, finder: ImageFinder, on_problem: OnProblem) -> Found:
    """The image that the file names or has the name of; without a name if it holds one and names none."""
    try:
        found, elsewhere = finder.find(content["imagePath"], (path.parent,)), None
    except ImageElsewhere as err:
        found, elsewhere = Found("", None), err
    except BadRecord:
        if content.get("imageData"):
            return Found("", None)
        raise
    if found.path is None and not content.get("imageData"):
        own = finder.find(path.stem, (path.parent,))
        if own.path is not None:
            told = f"its image {content['imagePath']!r} is not there; taken is {own.name}, which has the file's name"
            on_problem(Remark(problem_line(path, told)))
            return own
        if elsewhere is not None:
            raise elsewhere
    return found


def _parts(shape: Shape, size_hw: Size) -> tuple[Polygon, ...]:
    kind = shape.get("shape_type") or "polygon"
    if kind not in SHAPES:
        raise BadRecord(f"a {kind} is no object; it is left out (wanted {', '.join(SHAPES)})")
    return SHAPES[kind](shape, size_hw)


def _polygon(shape: Shape, size_hw: Size) -> tuple[Polygon, ...]:
    return (Polygon(ring(shape["points"])),)


def _rectangle(shape: Shape, size_hw: Size) -> tuple[Polygon, ...]:
    """Two opposite corners, or since version 7 all four."""
    points = ring(shape["points"])
    return (rectangle(*points.ravel()) if len(points) == 2 else Polygon(points),)


def _circle(shape: Shape, size_hw: Size) -> tuple[Polygon, ...]:
    """A middle, and a point on the circle."""
    (x, y), (x1, y1) = ring(shape["points"])
    radius = math.hypot(x1 - x, y1 - y)
    return (ellipse(x, y, radius, radius),)


def _mask(shape: Shape, size_hw: Size) -> tuple[Polygon, ...]:
    """Its upper left and lower right pixel, between pixels if it was moved by hand, and a PNG of the pixels between.

    The PNG tells how large the mask is; a box that is off by more than rounding can be is refused.
    """
    (x0, y0), (x1, y1) = np.floor(ring(shape["points"]) + 0.5).astype(int).tolist()
    mask = decode_png(decode_base64(shape["mask"]), size_hw)
    height, width = y1 - y0 + 1, x1 - x0 + 1
    if max(abs(mask.shape[0] - height), abs(mask.shape[1] - width)) > 1:
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        raise BadRecord(f"its mask has {size} pixels, its box {width} x {height}; export it again")
    return mask_parts(mask, (x0, y0), size_hw)


SHAPES: dict[str, Callable[[Shape, Size], tuple[Polygon, ...]]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _polygon,
    "rotation": _polygon,
    "quadrilateral": _polygon,
    "circle": _circle,
    "mask": _mask,
}


def _shapes(outline: Outline, number: int) -> Iterator[Shape]:
    """One polygon for each part; the number ties those of one object together."""
    for part in outline.parts:
        yield {
            "label": outline.label,
            "points": np.round(keyhole(part), DECIMALS).tolist(),
            "group_id": number if len(outline.parts) > 1 else None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
            **({} if outline.score is None else {"score": outline.score}),
        }
