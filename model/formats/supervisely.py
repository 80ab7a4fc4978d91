"""Supervisely projects (https://docs.supervisely.com): meta.json, and for each dataset the folders img and ann.

A polygon has one outer ring and holes; a bitmap is one object however many parts it has. Shapes with the same
"instance" key and class are parts of one object too. An object of several parts is written as a bitmap; as polygons
with such a key if its parts touch, or if the class of a given meta.json is of the shape polygon.

No library: the `supervisely` package (a client of its server, 89 dependencies, its own OpenCV) cuts coordinates to
whole pixels when it reads, joins no parts, and raises for a whole file at one broken object.
"""

from __future__ import annotations

import base64
import colorsys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from model.errors import BadRecord
from model.files import read_json, write_json
from model.formats.images import ImageFinder
from model.formats.layout import annotation_files, written_path
from model.formats.losses import with_losses
from model.formats.masks import cropped_mask, decode_base64, decode_png, encode_png, mask_parts
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, Tell, noted
from model.formats.shapes import parts_of, rectangle, ring
from model.geometry import mask_to_polygons, polygons_to_mask
from model.records import Outline, Polygon, Record

META = "meta.json"
DATASET = "ds0"  # of images that lie in no folder
ANN, IMG = "ann", "img"
DECIMALS = 3  # of written coordinates, in pixels
PNG_HEADER = 2**16  # room in bytes, beside at most 4 for a pixel
NOT_TAKEN = (".tif", ".tiff")

Json = dict[str, Any]
Size = tuple[int, int]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each file in the `ann` folders of a project or dataset, or for one such file.

    What is broken is told to `on_problem`. For one file images are told relative to its dataset.
    """
    finder = ImageFinder(root_of(source), images)
    for path in annotation_files(source, ".json", on_problem, folder=ANN):
        with noted(on_problem, path):
            yield with_losses(partial(_record, path, finder), on_problem)


def root_of(source: Path) -> Path:
    """The folder that image paths are relative to: of one file its dataset."""
    return source if source.is_dir() else source.parent.parent


def write(records: Iterable[Record], folder: Path, classes: Sequence[str], meta_json: Path | None = None) -> None:
    """Write an annotation file for each record, and meta.json; other files stay. Images belong to `image_path`.

    With the meta.json of a project its classes, colours and ids are used; BadRecord for one of `classes` that it lacks,
    for a label that is not among the classes, and for TIFF.
    """
    meta = _given_meta(meta_json, classes) if meta_json else _own_meta(folder / META, classes)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / META).exists() or read_json(folder / META) != meta:
        write_json(folder / META, meta)
    kinds = {entry["title"]: entry for entry in meta["classes"]}
    for record in records:
        check_labels(record, classes)
        written_path(folder, record.image)
        image = folder / image_path(record.image)
        if image.suffix.lower() in NOT_TAKEN:
            raise BadRecord(f"{record.image}: Supervisely takes no TIFF; convert the image to PNG and read it again")
        path = folder / annotation_path(record.image)
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = record.size_hw
        objects = [entry for outline in record.outlines for entry in _objects(outline, record, kinds[outline.label])]
        size = {"height": height, "width": width}
        write_json(path, {"description": "", "tags": [], "size": size, "objects": objects})


def image_path(image: str) -> str:
    """Where Supervisely looks for an image: field/a.jpg in field/img, a.jpg in ds0/img, field/img/a.jpg there."""
    *folders, name = PurePosixPath(image).parts
    if len(folders) > 1 and folders[-1] == IMG:
        return image
    return "/".join(["/datasets/".join(folders or [DATASET]), IMG, name])


def annotation_path(image: str) -> str:
    """Where in the folder the annotations of an image are: field/a.jpg in field/ann/a.jpg.json."""
    *dataset, _, name = PurePosixPath(image_path(image)).parts
    return "/".join([*dataset, ANN, f"{name}.json"])


def class_names(path: Path) -> tuple[str, ...]:
    """Classes of a meta.json in its order, also those without objects."""
    return tuple(entry["title"] for entry in _meta(path)["classes"])


def _record(path: Path, finder: ImageFinder, on_problem: OnProblem) -> Record:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise BadRecord("wanted a Supervisely annotation with 'size' and 'objects'; take the file out of the folder")
    found = finder.find(path.stem, (path.parent.parent / IMG,))
    size = content.get("size") or {}
    size_hw = finder.size_hw(found, size.get("height"), size.get("width"))
    pieces: list[Piece] = []
    for number, entry in enumerate(content["objects"], start=1):
        label = entry.get("classTitle") if isinstance(entry, dict) else None
        with noted(on_problem, path, f"object {number} ({label})") as tell:
            pieces.append(Piece(entry["classTitle"], _parts(entry, size_hw, tell), entry.get("instance")))
    return Record(found.name, size_hw, join(pieces))


def _parts(entry: Json, size_hw: Size, tell: Tell) -> tuple[Polygon, ...]:
    """Files of before 2020 do not name the shape."""
    kind = entry.get("geometryType") or entry.get("shape") or ("bitmap" if entry.get("bitmap") else "polygon")
    if kind not in SHAPES:
        raise BadRecord(f"a {kind} is no object; it is left out (wanted {', '.join(SHAPES)})")
    return SHAPES[kind](entry, size_hw, tell)


def _polygon(entry: Json, size_hw: Size, tell: Tell) -> tuple[Polygon, ...]:
    return parts_of([_rings(entry["points"])], tell)


def _multipolygon(entry: Json, size_hw: Size, tell: Tell) -> tuple[Polygon, ...]:
    return parts_of([_rings(points) for points in entry["parts"]], tell)


def _rings(points: Json) -> tuple[np.ndarray, list[np.ndarray]]:
    """The outer ring (k, 2) of a polygon, and its holes; a hole of no point is none."""
    return ring(points["exterior"]), [ring(hole) for hole in points.get("interior") or () if hole]


def _rectangle(entry: Json, size_hw: Size, tell: Tell) -> tuple[Polygon, ...]:
    (x0, y0), (x1, y1) = entry["points"]["exterior"]
    return (rectangle(float(x0), float(y0), float(x1), float(y1)),)


def _bitmap(entry: Json, size_hw: Size, tell: Tell) -> tuple[Polygon, ...]:
    """A PNG, packed once more by zlib but in a few old files, and where its upper left pixel lies."""
    content = decode_base64(entry["bitmap"]["data"])
    if not content.startswith(b"\x89PNG"):
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(content, 4 * size_hw[0] * size_hw[1] + PNG_HEADER)  # a bomb ends here
        except zlib.error as err:
            raise BadRecord(f"its bitmap cannot be unpacked ({err}); export the file again") from err
    left, top = (int(value) for value in entry["bitmap"]["origin"])
    return mask_parts(decode_png(content, size_hw), (left, top), size_hw)


SHAPES: dict[str, Callable[[Json, Size, Tell], tuple[Polygon, ...]]] = {
    "polygon": _polygon,
    "bitmap": _bitmap,
    "rectangle": _rectangle,
    "multipolygon": _multipolygon,
}


def _meta(path: Path) -> Json:
    try:
        meta = read_json(path)
        if all(isinstance(entry["title"], str) for entry in meta["classes"]):
            return meta
    except (OSError, ValueError, LookupError, TypeError) as err:
        raise BadRecord(f"wanted Supervisely's meta.json with 'classes' in {path}, got another file ({err})") from err
    raise BadRecord(f"a class in {path} has no title; export the project's meta.json again")


def _given_meta(path: Path, classes: Sequence[str]) -> Json:
    meta = _meta(path)
    titles = [entry["title"] for entry in meta["classes"]]
    if missing := [name for name in classes if name not in titles]:
        raise BadRecord(f"{path} has no class {', '.join(missing)}, only {', '.join(titles)}; add it in Supervisely")
    return meta


def _own_meta(path: Path, classes: Sequence[str]) -> Json:
    """The meta.json of an earlier call with what it lacks; new classes take polygons and bitmaps."""
    meta = _meta(path) if path.exists() else {"classes": [], "tags": []}
    titles = [entry["title"] for entry in meta["classes"]]
    for name in classes:
        if name not in titles:
            entry = {"title": name, "description": "", "shape": "any", "color": _colour(len(meta["classes"]))}
            meta["classes"].append({**entry, "geometry_config": {}, "hotkey": ""})
    return meta


def _colour(number: int) -> str:
    """A colour for each number, neighbours far apart: hues go on by the golden ratio."""
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.9, 0.8))
    return f"#{red:02X}{green:02X}{blue:02X}"


def _objects(outline: Outline, record: Record, kind: Json) -> Iterator[Json]:
    common: Json = {"classTitle": kind["title"], "description": "", "tags": []}
    if "id" in kind:
        common["classId"] = kind["id"]
    shape = kind.get("shape")
    if shape not in ("any", "polygon", "bitmap"):
        raise BadRecord(f"class {kind['title']!r} takes the shape {shape}, wanted any, polygon or bitmap; change it")
    if shape == "bitmap" or (shape == "any" and len(outline.parts) > 1 and _is_apart(outline, record.size_hw)):
        yield common | {"geometryType": "bitmap", "shape": "bitmap", "bitmap": _written_bitmap(outline, record.size_hw)}
        return
    if len(outline.parts) > 1:
        common["instance"] = uuid5(NAMESPACE_URL, f"{record.image}#{record.outlines.index(outline)}").hex
    for part in outline.parts:
        exterior, *interior = (np.round(points, DECIMALS).tolist() for points in (part.exterior, *part.holes))
        points = {"exterior": exterior, "interior": interior}
        yield common | {"geometryType": "polygon", "shape": "polygon", "points": points}


def _is_apart(outline: Outline, size_hw: Size) -> bool:
    """Whether a bitmap keeps the parts as they are: those that touch would become one."""
    return len(mask_to_polygons(polygons_to_mask(outline.parts, size_hw), 0)) == len(outline.parts)


def _written_bitmap(outline: Outline, size_hw: Size) -> Json:
    mask, (left, top) = cropped_mask(outline.parts, size_hw)
    data = base64.b64encode(zlib.compress(encode_png(mask, "P"))).decode()
    return {"origin": [left, top], "data": data}
