"""V7's Darwin JSON 1.x and 2.0 (https://docs.v7labs.com/reference/darwin-json): one file for each image.

The paths of a polygon are filled by the even-odd rule: they are parts and holes of one object. Tags stand for the whole
image and are passed over. 2.0 is written.

No library: `darwin-py` (a client of V7's server with 38 dependencies) parses the JSON into dictionaries that still hold
the paths as they are, without size or shape checks, and raises for a whole file where one key is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from model.errors import BadRecord
from model.files import read_json, write_json
from model.formats.images import ImageFinder
from model.formats.layout import annotation_files, beside, claimed, root_of, written_path
from model.formats.losses import with_losses
from model.formats.masks import apart, check_runs, mask_parts
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, Tell, noted
from model.formats.shapes import ellipse, parts_of, rectangle
from model.geometry import rings_to_polygons
from model.records import Outline, Polygon, Record

SCHEMA = "https://darwin-public.s3.eu-west-1.amazonaws.com/darwin_json/2.0/schema.json"
SUFFIX = ".json"
DECIMALS = 3  # of written coordinates, in pixels
SLOT = "0"  # V7's name of the only image of an item

Json = dict[str, Any]
Parts = tuple[Polygon, ...]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each JSON file of a folder, or of one file; what is broken is told to `on_problem`."""
    finder = ImageFinder(root_of(source), images)
    for path in annotation_files(source, SUFFIX, on_problem):
        with noted(on_problem, path):
            yield with_losses(partial(_record, path, finder), on_problem)


def write(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write `a.json` where `a.jpg` lies in the folder; other files there stay. Scores are V7's inference.confidence.

    Raises BadRecord for a label that is not among the classes, and where the file belongs to another image.
    """
    for record in records:
        check_labels(record, classes)
        image = written_path(folder, record.image)
        path = claimed(folder / beside(record.image, SUFFIX), image.name, image_of)
        annotations = [_annotation(outline, record, number) for number, outline in enumerate(record.outlines)]
        height, width = record.size_hw
        source_files = [{"file_name": image.name, "url": None}]
        slot = {"type": "image", "slot_name": SLOT, "width": width, "height": height, "source_files": source_files}
        item = {"name": image.name, "path": _folder_of(record.image), "slots": [slot]}
        write_json(path, {"version": "2.0", "schema_ref": SCHEMA, "item": item, "annotations": annotations})


def _folder_of(image: str) -> str:
    return "/" + image.rpartition("/")[0]


def image_of(path: Path) -> str:
    """The name of the image that a file of 2.0 annotates; KeyError, TypeError, ValueError or OSError if it does not."""
    return str(read_json(path)["item"]["name"])


def _record(path: Path, finder: ImageFinder, on_problem: OnProblem) -> Record:
    content = read_json(path)
    is_darwin = isinstance(content, dict) and ("item" in content or "image" in content)
    if not is_darwin or not isinstance(content.get("annotations"), list):
        raise BadRecord("wanted Darwin JSON with 'item' or 'image' and 'annotations'; take the file out of the folder")
    name, folder, size = _item(content["item"]) if "item" in content else _image(content["image"])
    below = folder.replace("\\", "/").strip("/")
    found = finder.find(name, (finder.root / below, path.parent), (finder.root / "images" / below,))
    size_hw = finder.size_hw(found, *size)
    layers = [entry["raster_layer"] for entry in content["annotations"] if _is_layer(entry)]
    pieces: list[Piece] = []
    for number, entry in enumerate(content["annotations"], start=1):
        label = entry.get("name") if isinstance(entry, dict) else None
        with noted(on_problem, path, f"annotation {number} ({label})") as tell:
            if "tag" not in entry and not _is_layer(entry):
                score = (entry.get("inference") or {}).get("confidence")
                pieces.append(Piece(entry["name"], _parts(entry, size_hw, layers, tell), number, score))
    return Record(found.name, size_hw, join(pieces))


def _item(item: Json) -> tuple[str, str, tuple[Any, Any]]:
    """Name, folder and (height, width) of an item of 2.0."""
    slots = item.get("slots") or [{}]
    if len(slots) > 1 or slots[0].get("type", "image") != "image":
        kinds = ", ".join(str(slot.get("type")) for slot in slots)
        raise BadRecord(f"wanted an item with one image, got {kinds}; export its images one by one")
    return item["name"], item.get("path") or "/", (slots[0].get("height"), slots[0].get("width"))


def _image(image: Json) -> tuple[str, str, tuple[Any, Any]]:
    """Name, folder and (height, width) of an image of 1.x."""
    if "frame_count" in image:
        raise BadRecord("wanted an image, got a video; export its frames as images")
    return image["filename"], image.get("path") or "/", (image.get("height"), image.get("width"))


def _is_layer(entry: Any) -> bool:
    return isinstance(entry, dict) and "raster_layer" in entry


def _parts(entry: Json, size_hw: tuple[int, int], layers: list[Json], tell: Tell) -> Parts:
    if "mask" in entry:
        return _raster(entry["id"], size_hw, layers)
    kind = next((kind for kind in SHAPES if kind in entry), None)
    if kind is None:
        kinds = ", ".join(sorted(set(entry) - {"id", "name", "slot_names", "properties", "inference"}))
        raise BadRecord(f"a {kinds or 'thing without shape'} is no object; it is left out")
    return SHAPES[kind](entry[kind], tell)


def _polygon(polygon: Json, tell: Tell) -> Parts:
    """Of 2.0 all paths, of 1.x one (or a list of them) and additional ones."""
    paths = polygon["paths"] if "paths" in polygon else [polygon["path"], *(polygon.get("additional_paths") or [])]
    rings = [ring for path in paths for ring in _rings(path)]
    if not rings:
        raise BadRecord("its polygon has no path; draw it or delete it")
    return rings_to_polygons([part.exterior for part in parts_of([(ring, ()) for ring in rings], tell)])


def _rings(path: list[Any]) -> Iterator[np.ndarray]:
    """The points of a path (k, 2), or of each one where exports of 1.x hold a list of paths in its place."""
    if path and isinstance(path[0], list):
        for inner in path:
            yield from _rings(inner)
    else:
        yield np.array([[point["x"], point["y"]] for point in path], float).reshape(-1, 2)


def _box(box: Json, tell: Tell) -> Parts:
    x, y = float(box["x"]), float(box["y"])
    return (rectangle(x, y, x + box["w"], y + box["h"]),)


def _ellipse(shape: Json, tell: Tell) -> Parts:
    middle, radius, degrees = shape["center"], shape["radius"], math.degrees(shape["angle"])
    return (ellipse(middle["x"], middle["y"], radius["x"], radius["y"], degrees),)


SHAPES: dict[str, Callable[[Json, Tell], Parts]] = {
    "polygon": _polygon,
    "complex_polygon": _polygon,
    "ellipse": _ellipse,
    "bounding_box": _box,
}


def _raster(mask_id: str, size_hw: tuple[int, int], layers: list[Json]) -> Parts:
    """The pixels of a mask, whose number stands in a layer of [number, how many pixels, ...] along the rows."""
    for layer in layers:
        if mask_id in layer["mask_annotation_ids_mapping"]:
            runs = np.asarray(layer["dense_rle"], np.int64).reshape(-1, 2)
            check_runs(runs[:, 1], size_hw[0] * size_hw[1], "its raster layer", "its image")
            pixels = np.repeat(runs[:, 0] == layer["mask_annotation_ids_mapping"][mask_id], runs[:, 1])
            return mask_parts(pixels.reshape(size_hw), (0, 0), size_hw)
    raise BadRecord("its mask is in no raster layer; export the file again")


def _annotation(outline: Outline, record: Record, number: int) -> Json:
    parts = apart(outline.parts, record.size_hw)
    rings = [np.round(ring, DECIMALS) for part in parts for ring in (part.exterior, *part.holes)]
    points = np.concatenate(rings)
    (x, y), (w, h) = points.min(0).tolist(), np.round(np.ptp(points, axis=0), DECIMALS).tolist()
    annotation = {
        "id": str(uuid5(NAMESPACE_URL, f"{record.image}#{number}")),
        "name": outline.label,
        "slot_names": [SLOT],
        "bounding_box": {"x": x, "y": y, "w": w, "h": h},
        "polygon": {"paths": [[{"x": x, "y": y} for x, y in ring.tolist()] for ring in rings]},
    }
    return annotation if outline.score is None else annotation | {"inference": {"confidence": outline.score}}
