"""LabelMe 3.0 XML, the old web tool's format, as CVAT and datumaro still write it: one file for each image.

An object is a <polygon>, or a <segm> whose mask is a PNG in the folder Masks. Objects tied by <parts> are parts of one
object if their labels are the same; a wheel of a car stays an object of its own. Deleted objects are left out. A part
with holes is written as a <segm>.

No library: datumaro reads this format only in its own folder layout and stops a whole import at one broken file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import SubElement

import numpy as np

from model.errors import BadRecord
from model.files import write_atomically
from model.formats import xml_tree
from model.formats.images import ImageFinder
from model.formats.layout import annotation_files, below, beside, claimed, root_of, written_path
from model.formats.losses import with_losses
from model.formats.masks import cropped_mask, decode_png, encode_png, has_pixels, mask_parts
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, noted
from model.formats.shapes import ring
from model.formats.xml_tree import Element, add, text
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record

MASKS = "Masks"
SUFFIX = ".xml"
DECIMALS = 2  # of coordinates, as CVAT writes them


@dataclass(frozen=True, eq=False)
class _Place:
    """An XML file and what its shapes need to know about its image."""

    path: Path
    size_hw: tuple[int, int]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each XML file of a folder, or of one file; what is broken is told to `on_problem`."""
    finder = ImageFinder(root_of(source), images)
    for path in annotation_files(source, SUFFIX, on_problem):
        with noted(on_problem, path):
            yield with_losses(partial(_record, path, finder), on_problem)


def write(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write `a.xml` beside where `a.jpg` lies in the folder, and masks into Masks there; other files stay.

    Raises BadRecord for a label that is not among the classes, and where the file belongs to another image.
    """
    for record in records:
        check_labels(record, classes)
        image = written_path(folder, record.image)
        path = claimed(folder / beside(record.image, SUFFIX), image.name, image_of)
        root = Element("annotation")
        add(root, "filename", image.name)
        add(root, "folder", record.image.rpartition("/")[0])
        source = SubElement(root, "source")
        add(source, "sourceImage")
        add(source, "sourceAnnotation", "MaskAL Studio")
        size = SubElement(root, "imagesize")
        add(size, "nrows", record.size_hw[0])
        add(size, "ncols", record.size_hw[1])
        for outline in record.outlines:
            _add_object(root, outline, path, record.size_hw)
        xml_tree.write(root, path)


def image_of(path: Path) -> str:
    """The name of the image that a file annotates; BadRecord or OSError if it does not."""
    return text(xml_tree.parse(path), "filename")


def _record(path: Path, finder: ImageFinder, on_problem: OnProblem) -> Record:
    tree = xml_tree.parse(path)
    if tree.tag != "annotation":
        raise BadRecord(f"wanted LabelMe's <annotation>, got <{tree.tag}>; take the file out of the folder")
    found = finder.find(text(tree, "filename"), (path.parent,), (_sibling(path, "Images"),))
    size_hw = finder.size_hw(found, text(tree, "imagesize/nrows"), text(tree, "imagesize/ncols"))
    place = _Place(path, size_hw)
    kept = [element for element in tree.iter("object") if text(element, "deleted") not in ("1", "yes", "true")]
    groups = _groups(kept)
    pieces: list[Piece] = []
    for number, element in enumerate(kept, start=1):
        label = text(element, "name")
        with noted(on_problem, path, f"object {text(element, 'id') or number} ({label})"):
            is_box = text(element, "type") == "bounding_box" and element.find("segm") is None
            pieces.append(Piece(label, _parts(element, place), groups.get(text(element, "id")), is_box=is_box))
    return Record(found.name, size_hw, join(pieces))


def _sibling(path: Path, folder: str) -> Path:
    """datumaro's layout: for Annotations/train/a.xml the folder Images/train, else the file's own folder."""
    parts = list(path.parent.parts)
    if "Annotations" not in parts:
        return path.parent
    place = len(parts) - 1 - parts[::-1].index("Annotations")
    return Path(*parts[:place], folder, *parts[place + 1 :])


def _groups(elements: list[Element]) -> dict[str, str]:
    """The id of the object that each part or whole (by id) belongs to: up the parents as long as the label is the same.

    Others are in no group: their ids may be missing, or the same for all.
    """
    labels = {text(element, "id"): text(element, "name") for element in elements}
    parents: dict[str, str] = {}
    for element in (element for element in elements if text(element, "id")):
        own = text(element, "id")
        parents.update({child: own for child in _ids(element, "parts/hasparts")})
        if whole := _ids(element, "parts/ispartof"):
            parents[own] = whole[0]
    groups = {}
    for start in labels.keys() & {*parents, *parents.values()}:
        own, seen = start, {start}
        while (parent := parents.get(own)) and parent not in seen and labels.get(parent) == labels[own]:
            own = parent
            seen.add(own)
        groups[start] = own
    return groups


def _ids(element: Element, path: str) -> list[str]:
    return [part.strip() for part in text(element, path).split(",") if part.strip()]


def _parts(element: Element, place: _Place) -> tuple[Polygon, ...]:
    if (mask := element.find("segm/mask")) is not None:
        return _mask(mask.text or "", place)
    if (polygon := element.find("polygon")) is not None:
        points = [(point.findtext("x"), point.findtext("y")) for point in polygon.iter("pt")]
        return (Polygon(ring(np.array(points, float).reshape(-1, 2))),)
    raise BadRecord("it has neither a polygon nor a mask; draw it or delete it")


def _mask(name: str, place: _Place) -> tuple[Polygon, ...]:
    folders = (place.path.parent / MASKS, _sibling(place.path, MASKS))
    paths = [folder / below(".", name.strip()) for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[0])
    if not path.is_file():
        raise BadRecord(f"its mask {path} is not there; restore it or delete the object")
    mask = decode_png(path.read_bytes(), place.size_hw)
    if mask.shape != place.size_hw:
        size = f"{mask.shape[1]} x {mask.shape[0]}"
        raise BadRecord(f"its mask {path} is {size}, its image {place.size_hw[1]} x {place.size_hw[0]} pixels")
    return mask_parts(mask, (0, 0), place.size_hw)


def _add_object(root: Element, outline: Outline, path: Path, size_hw: tuple[int, int]) -> None:
    """One <object> for each part; the first has the others as parts."""
    first = len(root.findall("object"))
    ids = range(first, first + len(outline.parts))
    for number, part in zip(ids, outline.parts, strict=True):
        element = SubElement(root, "object")
        for tag, content in (("name", outline.label), ("deleted", 0), ("verified", 0), ("occluded", "no")):
            add(element, tag, content)
        add(element, "date")
        add(element, "id", number)
        parts = SubElement(element, "parts")
        add(parts, "hasparts", ",".join(map(str, ids[1:])) if number == first else "")
        add(parts, "ispartof", first if number != first else "")
        if part.holes and has_pixels(part, size_hw):
            _add_mask(element, part, path.parent / MASKS / f"{path.stem}_mask_{number}.png", size_hw)
        else:
            _add_points(SubElement(element, "polygon"), part)
        add(element, "attributes")


def _add_points(polygon: Element, part: Polygon) -> None:
    for x, y in part.exterior.tolist():
        point = SubElement(polygon, "pt")
        add(point, "x", f"{x:.{DECIMALS}f}")
        add(point, "y", f"{y:.{DECIMALS}f}")
    add(polygon, "username")


def _add_mask(element: Element, part: Polygon, path: Path, size_hw: tuple[int, int]) -> None:
    crop, (left, top) = cropped_mask((part,), size_hw)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, encode_png(polygons_to_mask((part,), size_hw), "RGBA"))
    segm = SubElement(element, "segm")
    add(segm, "mask", path.name)
    box = SubElement(segm, "box")
    corners = {"xmin": left, "ymin": top, "xmax": left + crop.shape[1], "ymax": top + crop.shape[0]}
    for tag, content in corners.items():
        add(box, tag, content)
    add(segm, "username")
