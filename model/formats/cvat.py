"""CVAT for images 1.1 (https://docs.cvat.ai/docs/manual/advanced/xml_format/): one XML file for all images.

Shapes with the same group_id and label are parts of one object; CVAT's group 0 is none. A part with holes is written
as a <mask>, the others as <polygon>. Tags stand for the whole image and are passed over.

No library: datumaro (CVAT's own base) stops a whole import at one broken shape, reads no ellipse, and wants all images
to be there; its fork in CVAT drops masks when it writes this format. Here images are read one by one, so that an export
of any length does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import ParseError, SubElement

import numpy as np
from defusedxml import ElementTree

from model.errors import BadRecord
from model.formats import xml_tree
from model.formats.images import ImageFinder
from model.formats.layout import annotation_files, root_of, written_path
from model.formats.losses import with_losses
from model.formats.masks import check_runs, cropped_mask, has_pixels, mask_parts
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, noted, problem_line
from model.formats.shapes import ellipse, rectangle, ring
from model.formats.xml_tree import Element
from model.records import Outline, Polygon, Record

FILE_NAME = "annotations.xml"
DECIMALS = 2  # of coordinates, as CVAT writes them

Size = tuple[int, int]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each <image> of a file, or of all XML files of a folder; what is broken goes to `on_problem`."""
    finder = ImageFinder(root_of(source), images)
    for path in annotation_files(source, ".xml", on_problem):
        with noted(on_problem, path):
            for image in _images(path, on_problem):
                with noted(on_problem, path, f"image {image.get('name')!r}"):
                    yield with_losses(partial(_record, image, path, finder), on_problem)


def write(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write annotations.xml with all records, in place of an older one.

    Raises BadRecord for a label that is not among the classes.
    """
    root = Element("annotations")
    xml_tree.add(root, "version", "1.1")
    task = SubElement(SubElement(root, "meta"), "task")
    images = [_image(record, number, folder, classes) for number, record in enumerate(records)]
    for tag, content in (("id", 0), ("name", "annotations"), ("size", len(images)), ("mode", "annotation")):
        xml_tree.add(task, tag, content)
    labels = SubElement(task, "labels")
    for name in classes:
        label = SubElement(labels, "label")
        xml_tree.add(label, "name", name)
        SubElement(label, "attributes")
    root.extend(images)
    folder.mkdir(parents=True, exist_ok=True)
    xml_tree.write(root, folder / FILE_NAME)


def class_names(path: Path) -> tuple[str, ...]:
    """Labels of the file's task or project in its order, also those without objects; parts of skeletons are none."""
    labels = [label for label in xml_tree.parse(path).iter("label") if label.find("parent") is None]
    return tuple(dict.fromkeys(name for label in labels if (name := xml_tree.text(label, "name"))))


def _images(path: Path, on_problem: OnProblem) -> Iterator[Element]:
    """The <image> elements of a file, one by one; BadRecord if it is no XML (any more) or not CVAT's."""
    tracks, root = 0, None
    try:
        with path.open("rb") as stream:
            for event, element in ElementTree.iterparse(stream, events=("start", "end")):
                if root is None:
                    root = element
                    if root.tag != "annotations":
                        raise BadRecord(f"wanted CVAT's <annotations>, got <{root.tag}>; take the file elsewhere")
                elif event == "end" and element.tag in ("image", "track"):
                    if element.tag == "image":
                        yield element
                    tracks += element.tag == "track"
                    root.clear()  # what was read is not kept
    except (ParseError, ValueError) as err:
        raise BadRecord(f"wanted XML, got something else ({err}); restore the file or delete it") from err
    if tracks:
        mend = "they are of a video; export the task as 'CVAT for images 1.1'"
        on_problem(problem_line(path, f"left out {tracks} tracks: {mend}"))


def _record(image: Element, path: Path, finder: ImageFinder, on_problem: OnProblem) -> Record:
    name, folder = image.attrib["name"], path.parent
    found = finder.find(name, (folder,), (folder / "images", folder / "images" / image.get("subset", "")))
    size_hw = finder.size_hw(found, image.get("height"), image.get("width"))
    pieces: list[Piece] = []
    for number, shape in enumerate((child for child in image if child.tag != "tag"), start=1):
        with noted(on_problem, path, f"image {name!r}, {shape.tag} {number} ({shape.get('label')})"):
            if shape.tag not in SHAPES:
                raise BadRecord(f"<{shape.tag}> is no object; it is left out (wanted {', '.join(SHAPES)})")
            group = int(shape.get("group_id") or 0) or None
            parts = SHAPES[shape.tag](shape, size_hw)
            pieces.append(Piece(shape.get("label"), parts, group, is_box=shape.tag == "box"))
    return Record(found.name, size_hw, join(pieces))


def _numbers(shape: Element, *names: str) -> list[float]:
    return [float(shape.attrib[name]) for name in names]


def _polygon(shape: Element, size_hw: Size) -> tuple[Polygon, ...]:
    points = shape.attrib["points"].strip("; ")
    if not points:
        raise BadRecord("it has no points, wanted points='x,y;x,y;...'; draw its outline or delete it")
    try:
        outer = ring([pair.split(",") for pair in points.split(";")])
    except ValueError as err:
        raise BadRecord(f"wanted points='x,y;x,y;...', got {points[:60]!r}; export the file again") from err
    return (Polygon(outer),)


def _box(shape: Element, size_hw: Size) -> tuple[Polygon, ...]:
    x0, y0, x1, y1 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    return (rectangle(x0, y0, x1, y1, degrees=float(shape.get("rotation", 0))),)


def _ellipse(shape: Element, size_hw: Size) -> tuple[Polygon, ...]:
    x, y, radius_x, radius_y = _numbers(shape, "cx", "cy", "rx", "ry")
    return (ellipse(x, y, radius_x, radius_y, degrees=float(shape.get("rotation", 0))),)


def _mask(shape: Element, size_hw: Size) -> tuple[Polygon, ...]:
    """Lengths of runs along the rows of a box, of pixels outside and inside in turn; of a mask rubbed out none or 0."""
    if shape.attrib["rle"].strip() in ("", "0"):
        raise BadRecord("its mask holds no pixel; delete it")
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], np.int64)
    if min(width, height) < 1 or width > size_hw[1] or height > size_hw[0]:
        image = f"{size_hw[1]} x {size_hw[0]}"
        raise BadRecord(f"its mask is {width} x {height}, its image {image} pixels; export the file again")
    check_runs(runs, height * width, "its RLE", "its box")
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return mask_parts(mask, (left, top), size_hw)


SHAPES: dict[str, Callable[[Element, Size], tuple[Polygon, ...]]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _image(record: Record, number: int, folder: Path, classes: Sequence[str]) -> Element:
    check_labels(record, classes)
    written_path(folder, record.image)
    height, width = record.size_hw
    size = {"width": str(width), "height": str(height)}
    image = Element("image", {"id": str(number), "name": record.image, **size})
    for group, outline in enumerate(record.outlines, start=1):
        tied = {"group_id": str(group)} if len(outline.parts) > 1 else {}
        for part in outline.parts:
            _add_part(image, outline, part, record.size_hw, tied)
    return image


def _add_part(image: Element, outline: Outline, part: Polygon, size_hw: Size, tied: dict[str, str]) -> None:
    source = "manual" if outline.score is None else "auto"
    common = {"label": outline.label, "source": source, "occluded": "0"}
    if part.holes and has_pixels(part, size_hw):
        SubElement(image, "mask", {**common, **_rle((part,), size_hw), "z_order": "0", **tied})
    else:
        points = ";".join(f"{x:.{DECIMALS}f},{y:.{DECIMALS}f}" for x, y in part.exterior.tolist())
        SubElement(image, "polygon", {**common, "points": points, "z_order": "0", **tied})


def _rle(parts: tuple[Polygon, ...], size_hw: Size) -> dict[str, str]:
    mask, (left, top) = cropped_mask(parts, size_hw)
    pixels = np.concatenate([[False], mask.ravel(), [not mask[-1, -1]]])
    ends = np.flatnonzero(pixels[1:] != pixels[:-1])
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    height, width = mask.shape
    box = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in box.items()}}
