"""COCO instance JSON (https://cocodataset.org/#format-data), as CVAT, datumaro, Roboflow and others write it.

`read` takes one file and stops at what is broken; `read_records` and `write_records` are like those of all formats.
A predicted object's score stands beside its segmentation, as in COCO's results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from model.errors import BadRecord
from model.files import read_json, write_json
from model.formats.layout import annotation_files, checked_size, image_in, root_of, written_path
from model.formats.losses import inside
from model.formats.masks import check_runs
from model.formats.pieces import check_labels
from model.formats.problems import BROKEN, OnProblem, noted, problem_line, reason
from model.geometry import mask_to_polygons, polygons_to_mask
from model.records import Outline, Polygon, Record

FILE_NAME = "annotations.json"
CROWDS = "left out %d annotations with iscrowd=1 (crowds; if the tool marks every mask so, --iscrowd-masks reads them)"

OnBroken = Callable[[str, Exception], None]

logger = logging.getLogger(__name__)

DECIMALS = 3  # of written coordinates, in pixels


def read(annotations: Path, *, iscrowd_masks: bool = False, tolerance_px: float = 0.0) -> tuple[Record, ...]:
    """Read one record for each image of the file, in its order; images without annotations hold no object.

    Several polygons of an annotation are parts of one object. RLE masks become outlines within `tolerance_px`
    (0: exactly). Annotations with iscrowd=1 stand for a crowd, not an object, and are left out with a warning;
    some tools set it for every RLE mask, which `iscrowd_masks` then reads as objects.
    Raises BadRecord that names the file, the annotation and what is wrong.
    """

    def stop(place: str, err: Exception) -> None:
        raise BadRecord(f"{annotations}: {place}: {reason(err)}") from err

    content = _content(annotations)
    records, crowds = _records(content, _category_names(content, annotations), stop, iscrowd_masks, tolerance_px)
    if crowds:
        logger.warning("%s: " + CROWDS, annotations, crowds)
    return records


def read_records(source: Path, on_problem: OnProblem, *, iscrowd_masks: bool = False) -> Iterator[Record]:
    """One record for each image of a file, or of all JSON files of a folder; what is broken goes to `on_problem`."""
    for path in annotation_files(source, ".json", on_problem):

        def tell(place: str, err: Exception, path: Path = path) -> None:
            on_problem(problem_line(path, place, reason(err)))

        with noted(on_problem, path):
            content = _content(path)
            records, crowds = _records(content, _category_names(content, path), tell, iscrowd_masks)
            if crowds:
                on_problem(problem_line(path, CROWDS % crowds))
            for record in records:
                with noted(on_problem, path, f"image {record.image!r}"):
                    yield replace(record, image=_image_in(root_of(source), path, record.image))


def _image_in(root: Path, path: Path, name: str) -> str:
    """As the file names it, or in datumaro's and CVAT's layout: annotations/instances_train.json, images/train."""
    folder = path.parent.parent if path.parent.name == "annotations" and path.parent != root else path.parent
    subset = path.stem.partition("_")[2] or path.stem
    return image_in(root, folder, name, f"images/{name}", f"images/{subset}/{name}")


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
        check_labels(record, class_names)
        images.append({"id": image_id, "file_name": record.image, "width": width, "height": height})
        for outline in record.outlines:
            ids = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": class_names.index(outline.label) + 1,
            }
            score = {} if outline.score is None else {"score": outline.score}
            annotations.append(ids | _shape(outline, record.size_hw) | score)
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories}, indent=None)


def write_records(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write annotations.json with all records, in place of an older one; see `write`."""
    held = list(records)
    for record in held:
        written_path(folder, record.image)
    folder.mkdir(parents=True, exist_ok=True)
    write(held, folder / FILE_NAME, classes)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as err:
        raise BadRecord(f"cannot read COCO annotations: {err}") from err
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise BadRecord(f"{path}: wanted COCO instances with 'images', 'annotations' and 'categories', got other JSON")
    return content


def _records(
    content: dict[str, Any], names: dict[Any, str], on_broken: OnBroken, iscrowd_masks: bool, tolerance_px: float = 0.0
) -> tuple[tuple[Record, ...], int]:
    """All records, and how many crowds were left out. What is broken is left out too if `on_broken` does not raise."""
    images = _images(content, on_broken)
    outlines: dict[Any, list[Outline]] = {image_id: [] for image_id in images}
    unread: dict[str, list[str]] = {str(image_id): [] for image_id in images}  # text: also of ids of the wrong type
    crowds = 0
    for annotation in content.get("annotations", []):
        place = f"annotation {_id_of(annotation)}"
        try:
            if annotation.get("iscrowd") and not (iscrowd_masks and _is_rle(annotation)):
                crowds += 1
                _lost(unread, annotation, f"{place} is a crowd")
                continue
            image_id = annotation["image_id"]
            size_hw = images[image_id].size_hw
            within, outside = inside(_outline(annotation, names, size_hw, tolerance_px), size_hw)
            outlines[image_id] += within
            if outside:
                raise BadRecord("; ".join(outside))
        except BROKEN as err:
            _lost(unread, annotation, f"{place}: {reason(err)}")
            on_broken(place, err)
    records = (
        replace(image, outlines=tuple(outlines[key]), unread=tuple(unread[str(key)])) for key, image in images.items()
    )
    return tuple(records), crowds


def _lost(unread: dict[str, list[str]], annotation: Any, line: str) -> None:
    """Note with its image what cannot be read, where the annotation tells one."""
    image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
    unread.get(str(image_id), []).append(line)


def _images(content: dict[str, Any], on_broken: OnBroken) -> dict[Any, Record]:
    """Empty records by COCO's image id."""
    images: dict[Any, Record] = {}
    for image in content["images"]:
        try:
            if image["id"] in images:
                raise ValueError("its id stands for another image already; ids must differ")
            images[image["id"]] = Record(str(image["file_name"]), checked_size(image["height"], image["width"]), ())
        except BROKEN as err:
            on_broken(f"image {_id_of(image)}", err)
    return images


def _category_names(content: dict[str, Any], path: Path) -> dict[Any, str]:
    try:
        return {category["id"]: _name(category) for category in content["categories"]}
    except (LookupError, TypeError, BadRecord) as err:
        raise BadRecord(f"{path}: categories: {reason(err)}") from err


def _name(category: dict[str, Any]) -> str:
    """The name of a category without the blanks around it; some tools write numbers."""
    name = category["name"]
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise BadRecord(f"category {category['id']!r} has the name {name!r}, wanted a text; name it in the file")
    return str(name).strip()


def _id_of(entry: Any) -> Any:
    return entry.get("id", "without id") if isinstance(entry, dict) else repr(entry)


def _is_rle(annotation: dict[str, Any]) -> bool:
    return isinstance(annotation.get("segmentation"), dict)


def _outline(
    annotation: dict[str, Any], names: dict[Any, str], size_hw: tuple[int, int], tolerance_px: float
) -> Outline:
    """One annotation as an outline; errors say what is wrong, not where."""
    label, shape, score = names[annotation["category_id"]], annotation["segmentation"], annotation.get("score")
    if _is_rle(annotation):
        parts = mask_to_polygons(_rle_to_mask(shape, size_hw), tolerance_px)
        if not parts:
            raise BadRecord("its mask holds no pixel; delete it")
        return Outline(label, parts, score)
    if not shape:
        raise BadRecord("it has no outline (a box only?); draw its outline or delete it")
    return Outline(label, tuple(Polygon(_points(polygon)) for polygon in shape), score)


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
    check_runs(runs, height * width, "its RLE", "its image")
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
