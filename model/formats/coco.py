"""COCO instance JSON (https://cocodataset.org/#format-data), as CVAT, datumaro, Roboflow and others write it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from model.errors import BadRecord
from model.files import read_json, write_json
from model.geometry import mask_to_polygons, polygons_to_mask
from model.records import Outline, Polygon, Record

logger = logging.getLogger(__name__)

DECIMALS = 3  # of written coordinates, in pixels


def read(annotations: Path, *, iscrowd_masks: bool = False, tolerance_px: float = 0.0) -> tuple[Record, ...]:
    """Read one record for each image of the file, in its order; images without annotations hold no object.

    Several polygons of an annotation are parts of one object. RLE masks become outlines within `tolerance_px`
    (0: exactly). Annotations with iscrowd=1 stand for a crowd, not an object, and are left out with a warning;
    some tools set it for every RLE mask, which `iscrowd_masks` then reads as objects.
    Raises BadRecord that names the file, the annotation and what is wrong.
    """
    content = _content(annotations)
    images, names = _images(content, annotations), _category_names(content, annotations)
    outlines: dict[Any, list[Outline]] = {image_id: [] for image_id in images}
    crowds = 0
    for annotation in content.get("annotations", []):
        try:
            if annotation.get("iscrowd") and not (iscrowd_masks and _is_rle(annotation)):
                crowds += 1
                continue
            image_id = annotation["image_id"]
            outlines[image_id].append(_outline(annotation, names, images[image_id].size_hw, tolerance_px))
        except (BadRecord, LookupError, ValueError, TypeError, AttributeError) as err:
            raise BadRecord(f"{annotations}: annotation {_id_of(annotation)}: {_reason(err)}") from err
    if crowds:
        logger.warning(
            "%s: left out %d annotations with iscrowd=1 (crowds; iscrowd_masks reads those that are RLE masks)",
            annotations,
            crowds,
        )
    return tuple(Record(image.image, image.size_hw, tuple(outlines[key])) for key, image in images.items())


def class_names(annotations: Path) -> tuple[str, ...]:
    """Names of all categories in the file's order, also of those without objects; a repeated name counts once."""
    return tuple(dict.fromkeys(_category_names(_content(annotations), annotations).values()))


def write(records: Iterable[Record], path: Path, class_names: Sequence[str]) -> None:
    """Write records as COCO instances: polygons, or an RLE mask where an object has holes. Ids count from 1.

    Raises BadRecord if an outline has a label that is not among the class names.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        height, width = record.size_hw
        images.append({"id": image_id, "file_name": record.image, "width": width, "height": height})
        for outline in record.outlines:
            if outline.label not in class_names:
                raise BadRecord(f"object of {record.image} is a {outline.label!r}, wanted one of {tuple(class_names)}")
            ids = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": class_names.index(outline.label) + 1,
            }
            annotations.append(ids | _shape(outline, record.size_hw))
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories}, indent=None)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as err:
        raise BadRecord(f"cannot read COCO annotations: {err}") from err
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadRecord(f"{path}: wanted COCO instances with 'images', 'annotations' and 'categories', got other JSON")
    return content


def _images(content: dict[str, Any], path: Path) -> dict[Any, Record]:
    """Empty records by COCO's image id."""
    images: dict[Any, Record] = {}
    for image in content["images"]:
        try:
            if image["id"] in images:
                raise ValueError("its id stands for another image already; ids must differ")
            images[image["id"]] = Record(str(image["file_name"]), (int(image["height"]), int(image["width"])), ())
        except (LookupError, ValueError, TypeError) as err:
            raise BadRecord(f"{path}: image {_id_of(image)}: {_reason(err)}") from err
    return images


def _category_names(content: dict[str, Any], path: Path) -> dict[Any, str]:
    try:
        return {category["id"]: str(category["name"]) for category in content["categories"]}
    except (LookupError, TypeError) as err:
        raise BadRecord(f"{path}: categories: {_reason(err)}") from err


def _id_of(entry: Any) -> Any:
    return entry.get("id", "without id") if isinstance(entry, dict) else repr(entry)


def _reason(err: Exception) -> str:
    """What is wrong, for a reader who knows the file but not this code; a LookupError is a missing key or id."""
    return f"{err} is missing or stands for nothing in the file" if isinstance(err, LookupError) else str(err)


def _is_rle(annotation: dict[str, Any]) -> bool:
    return isinstance(annotation.get("segmentation"), dict)


def _outline(
    annotation: dict[str, Any], names: dict[Any, str], size_hw: tuple[int, int], tolerance_px: float
) -> Outline:
    """One annotation as an outline; errors say what is wrong, not where."""
    label, shape = names[annotation["category_id"]], annotation["segmentation"]
    if _is_rle(annotation):
        parts = mask_to_polygons(_rle_to_mask(shape, size_hw), tolerance_px)
        if not parts:
            raise BadRecord("its mask holds no pixel; delete it")
        return Outline(label, parts)
    if not shape:
        raise BadRecord("it has no outline (a box only?); draw its outline or delete it")
    return Outline(label, tuple(Polygon(_points(polygon)) for polygon in shape))


def _points(polygon: list[float]) -> np.ndarray:
    """COCO's [x, y, x, y, ...] as (k, 2) float."""
    flat = np.asarray(polygon, float)
    if flat.ndim != 1 or len(flat) % 2:
        raise BadRecord(f"a polygon is a list [x, y, x, y, ...], got {str(polygon)[:60]}; export the file again")
    return flat.reshape(-1, 2)


def _rle_to_mask(rle: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """Mask (h, w) bool of a compressed (text) or uncompressed (list) RLE, which runs down the columns."""
    height, width = size_hw
    if list(rle["size"]) != [height, width]:
        raise BadRecord(f"its mask has the size {rle['size']}, its image [{height}, {width}] (height, width)")
    counts = rle["counts"]
    runs = np.asarray(counts, np.int64) if isinstance(counts, list) else _runs(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise BadRecord(f"its RLE covers {runs.sum()} pixels, its image has {height * width}; export the file again")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(text: str) -> np.ndarray:
    """Run lengths of COCO's compressed RLE, checked here because its C library reads past the end of a broken one.

    Each number is cut into groups of 5 bits, lowest first, each a character from "0" on with bit 6 set if more
    follow; from the third run on it is the difference from the run two before (rleFrString in maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64:
            raise BadRecord("its compressed RLE holds a character that does not belong there; export the file again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift  # negative number
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise BadRecord("its compressed RLE is cut off; export the file again")
    return np.array(runs, np.int64)


def _shape(outline: Outline, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Segmentation, area (pixels of the mask), bbox (x, y, width, height) and iscrowd of one object."""
    rle = coco_mask.encode(np.asfortranarray(polygons_to_mask(outline.parts, size_hw).astype(np.uint8)))
    area, bbox = int(coco_mask.area(rle)), [float(value) for value in coco_mask.toBbox(rle)]
    segmentation: dict[str, Any] | list[list[float]]
    if any(part.holes for part in outline.parts):
        segmentation = {"size": list(size_hw), "counts": rle["counts"].decode()}
    else:
        rounded = (np.round(part.exterior, DECIMALS).tolist() for part in outline.parts)
        segmentation = [list(chain.from_iterable(points)) for points in rounded]
    return {"segmentation": segmentation, "area": area, "bbox": bbox, "iscrowd": 0}
