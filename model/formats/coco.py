"""COCO instance JSON (https://cocodataset.org/#format-data), as CVAT, datumaro, Roboflow and others write it.

`read` takes one file, for whoever learns from it; `read_records` and `write_records` are like those of all formats.
A predicted object's score stands beside its segmentation, as in COCO's results.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask

from model.errors import BadRecord
from model.files import read_json, write_json
from model.formats.coco_ids import key_of, shown_id, with_id
from model.formats.coco_rle import is_runs, rle_to_mask
from model.formats.images import ImageFinder
from model.formats.layout import annotation_files, checked_size, root_of, written_path
from model.formats.losses import inside, without_repeats
from model.formats.masks import window_mask
from model.formats.pieces import check_labels
from model.formats.problems import OnProblem, Remark, Tell, noted, problem_line, reason
from model.formats.shapes import FEWEST_POINTS, parts_of
from model.geometry import box_of, mask_to_polygons
from model.records import Outline, Record

FILE_NAME = "annotations.json"
INFO = {"description": "written by maskal-studio"}
CROWDS = "left out %d annotations with iscrowd=1 (crowds; if the tool marks every mask so, --iscrowd-masks reads them)"

logger = logging.getLogger(__name__)

BACKGROUND = ("background", "bg")
"""Names of a category for what is no object, in small letters and without the lines around them."""

NAMED = 5  # images that an error names
DECIMALS = 3  # of written coordinates, in pixels

Size = tuple[int, int]
Locate = Callable[[Any, Any, Any], tuple[str, Size]]
"""From an image's name, height and width in a file to what its record says."""


@dataclass(frozen=True)
class _Source:
    """A file, and how it is read."""

    path: Path
    locate: Locate
    on_problem: OnProblem
    iscrowd_masks: bool


def read(annotations: Path, *, images: Path | None = None, iscrowd_masks: bool = False) -> tuple[Record, ...]:
    """Read one record for each image of the file, in its order; images without annotations hold no object.

    Several polygons of an annotation are parts of one object. RLE masks become their exact outlines. Annotations with
    iscrowd=1 stand for a crowd, not an object, and are left out; some tools set it for every RLE mask, which
    `iscrowd_masks` then reads as objects. Images are looked for in the folder `images`, from which the records' names
    then count; without it they are named as in the file, which must tell their sizes.
    What cannot be read stands in its record's `unread`, and what belongs to no record is a warning of one line.
    Raises BadRecord that names the file and the reason if it cannot be read, or an image that it names is not to be
    found or of no known size.
    """
    problems: list[str] = []
    missing: list[str] = []
    find = _named if images is None else _in_folder(ImageFinder(images), images, annotations)

    def locate(name: Any, height: Any, width: Any) -> tuple[str, Size]:
        try:
            return find(name, height, width)
        except BadRecord as err:
            missing.append(f"{name!r}: {err}")
            raise

    content = _content(annotations)
    names = _category_names(content, annotations)
    records = tuple(_records(content, names, _Source(annotations, locate, problems.append, iscrowd_masks)))
    if missing:
        more = "; ..." if len(missing) > NAMED else ""
        count = f"{len(missing)} of {len(content['images'])} images"
        raise BadRecord(f"{annotations}: {count} cannot be used: {'; '.join(missing[:NAMED])}{more}")
    told = {problem_line(annotations, line) for record in records for line in record.unread}
    for problem in problems:
        if problem not in told:
            logger.warning("%s", problem)
    return records


def read_records(
    source: Path, on_problem: OnProblem, images: Path | None = None, *, iscrowd_masks: bool = False
) -> Iterator[Record]:
    """One record for each image of a file, or of all JSON files of a folder; what is broken goes to `on_problem`."""
    root = root_of(source)
    finder = ImageFinder(root, images)
    for path in annotation_files(source, ".json", on_problem):
        folder = path.parent.parent if path.parent.name == "annotations" and path.parent != root else path.parent
        with noted(on_problem, path):
            content = _content(path)
            names = _category_names(content, path)
            reading = _Source(path, _in_folder(finder, folder, path), on_problem, iscrowd_masks)
            yield from _records(content, names, reading)


def _named(name: Any, height: Any, width: Any) -> tuple[str, Size]:
    if height is None or width is None:
        raise BadRecord("the size of its image is not in the file; export it again")
    return str(name), checked_size(height, width)


def _in_folder(finder: ImageFinder, folder: Path, path: Path) -> Locate:
    """Finds images as the file names them, or in datumaro's and CVAT's layout: images/train of instances_train.json."""
    subset = path.stem.partition("_")[2] or path.stem

    def locate(name: Any, height: Any, width: Any) -> tuple[str, Size]:
        found = finder.find(name, (folder,), (folder / "images", folder / "images" / subset))
        return found.name, finder.size_hw(found, height, width)

    return locate


def class_names(annotations: Path) -> tuple[str, ...]:
    """Names of all categories in the file's order, also of those without objects; a repeated name counts once.

    Without objects a name that another category has as its supercategory is a heading, as in Roboflow's files, and that
    of the background is what every network knows anyway.
    """
    content = _content(annotations)
    names = _category_names(content, annotations)
    headings = {str(category.get("supercategory")) for category in content["categories"] if not _is_alone(category)}
    objects = [annotation for annotation in content.get("annotations", []) if isinstance(annotation, dict)]
    used = {key_of(annotation.get("category_id")) for annotation in objects}
    idle = {key for key, name in names.items() if name in headings or name.strip("_").lower() in BACKGROUND}
    return tuple(dict.fromkeys(name for key, name in names.items() if key in used or key not in idle))


def _is_alone(category: dict[str, Any]) -> bool:
    """Whether a category is its own supercategory, as those of COCO that have no others beside them."""
    return bool(category.get("supercategory") == category["name"])


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
    content = {"info": INFO, "images": images, "annotations": annotations, "categories": categories}
    write_json(path, content, indent=None)


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
    is_coco = isinstance(content, dict) and isinstance(content.get("images"), list)
    if not is_coco or not isinstance(content.get("annotations", []), list):
        raise BadRecord(f"{path}: wanted COCO instances with 'images', 'annotations' and 'categories', got other JSON")
    return content


def _records(content: dict[str, Any], names: dict[str, str], source: _Source) -> Iterator[Record]:
    """All records, with what of each could not be read; annotations of an image that is told itself are not."""
    images = _images(content, source)
    outlines: dict[str, list[Outline]] = {image_id: [] for image_id in images}
    unread: dict[str, list[str]] = {image_id: [] for image_id in images}
    crowds = 0
    for annotation in content.get("annotations", []):
        lines: list[str] = []
        place = f"annotation {shown_id(annotation)}"
        with noted(lines.append, place) as tell:
            if float(annotation.get("iscrowd") or 0) and not (source.iscrowd_masks and _is_rle(annotation)):
                crowds += 1
                _lose(unread, annotation, [f"{place} is a crowd"])
            elif (image := with_id(images, annotation, "image_id")) is not None:
                within, outside = inside(_outline(annotation, names, image.size_hw, tell), image.size_hw)
                outlines[key_of(annotation["image_id"])] += within
                if outside:
                    raise BadRecord("; ".join(outside))
        _lose(unread, annotation, [line for line in lines if not isinstance(line, Remark)])
        for line in lines:
            source.on_problem(problem_line(source.path, line))
    if crowds:
        source.on_problem(problem_line(source.path, CROWDS % crowds))
    for key, image in images.items():
        if image is not None:
            record = replace(image, outlines=tuple(outlines[key]), unread=tuple(unread[key]))
            yield without_repeats(record, lambda line: source.on_problem(problem_line(source.path, line)))


def _lose(unread: dict[str, list[str]], annotation: Any, lines: Sequence[str]) -> None:
    """Note with its image what cannot be read, where the annotation tells one."""
    image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
    unread.get(key_of(image_id), []).extend(lines)


def _images(content: dict[str, Any], source: _Source) -> dict[str, Record | None]:
    """Empty records by COCO's image id, None for what cannot be read and is told."""
    images: dict[str, Record | None] = {}
    for image in content["images"]:
        with noted(source.on_problem, source.path, f"image {shown_id(image)}"):
            key = key_of(image["id"])
            if key in images:
                raise ValueError("its id stands for another image already; ids must differ")
            images[key] = None
            name, size_hw = source.locate(image["file_name"], image.get("height"), image.get("width"))
            images[key] = Record(name, size_hw, ())
    return images


def _category_names(content: dict[str, Any], path: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    try:
        for category in content["categories"]:
            number, name = key_of(category["id"]), _name(category)
            if names.setdefault(number, name) != name:  # as in files that were put together by hand
                both = f"{names[number]!r} and {name!r}"
                raise BadRecord(f"id {number} stands for {both}; give each category an id of its own")
        return names
    except (LookupError, TypeError, BadRecord) as err:
        raise BadRecord(f"{path}: categories: {reason(err)}") from err


def _name(category: dict[str, Any]) -> str:
    """The name of a category without the blanks around it; some tools write numbers."""
    name = category["name"]
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise BadRecord(f"category {category['id']!r} has the name {name!r}, wanted a text; name it in the file")
    return str(name).strip()


def _is_rle(annotation: dict[str, Any]) -> bool:
    return isinstance(annotation.get("segmentation"), dict)


def _outline(annotation: dict[str, Any], names: dict[str, str], size_hw: Size, tell: Tell) -> Outline:
    """One annotation as an outline; errors say what is wrong, not where."""
    label, score = with_id(names, annotation, "category_id"), annotation.get("score")
    shape: Any = annotation.get("segmentation")
    if _is_rle(annotation):
        parts = mask_to_polygons(rle_to_mask(shape, size_hw), 0)
        if not parts:
            raise BadRecord("its mask holds no pixel; delete it")
        return Outline(label, parts, score)
    if not shape:
        raise BadRecord("it has no outline (a box only?); draw its outline or delete it")
    if isinstance(shape, list) and isinstance(shape[0], dict):
        raise BadRecord("its mask stands in a list, [{'counts': ...}], wanted {'counts': ..., 'size': [h, w]} itself")
    polygons = shape if isinstance(shape[0], list) else [shape]
    if len(polygons) == 1 and is_runs(polygons[0], size_hw):
        raise BadRecord("it has run lengths in place of a polygon; write them as {'counts': [...], 'size': [h, w]}")
    if len(polygons) >= FEWEST_POINTS and all(len(polygon) == 2 for polygon in polygons):
        raise BadRecord("its points are pairs [[x, y], ...], wanted [[x, y, x, y, ...]]; write them as one list")
    rings = [_points(polygon) for polygon in polygons]
    points = np.concatenate(rings)
    if len(points) and points.min() >= 0 and points.max() <= 1 and (points % 1).any():  # as Azure writes them
        raise BadRecord("its points are shares of the image, 0..1, wanted pixels; multiply them by width and height")
    return Outline(label, parts_of([(ring, ()) for ring in rings], tell), score)


def _points(polygon: list[float]) -> np.ndarray:
    """COCO's [x, y, x, y, ...] as (k, 2) float; the last number of too few for an area may lack its partner."""
    flat = np.asarray(polygon, float)
    if flat.ndim == 1 and len(flat) < 2 * FEWEST_POINTS:
        flat = flat[: len(flat) // 2 * 2]
    if flat.ndim != 1 or len(flat) % 2:
        raise BadRecord(f"a polygon is a list [x, y, x, y, ...], got {str(polygon)[:60]}; export the file again")
    return flat.reshape(-1, 2)


def _shape(outline: Outline, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Segmentation, area (pixels of the mask), bbox (x, y, width, height) and iscrowd of one object."""
    mask, (left, top) = window_mask(outline.parts, size_hw)
    area, bbox = int(mask.sum()), [0.0] * 4
    if area:
        x0, y0, x1, y1 = box_of(mask).tolist()
        bbox = [left + x0, top + y0, x1 - x0, y1 - y0]
    segmentation: dict[str, Any] | list[list[float]]
    if area and any(part.holes for part in outline.parts):
        whole = np.zeros(size_hw, np.uint8, order="F")
        whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        segmentation = {"size": list(size_hw), "counts": coco_mask.encode(whole)["counts"].decode()}
    else:
        rounded = (np.round(part.exterior, DECIMALS).tolist() for part in outline.parts)
        segmentation = [list(chain.from_iterable(points)) for points in rounded]
    return {"segmentation": segmentation, "area": area, "bbox": bbox, "iscrowd": 0}
