"""YOLO segmentation as Ultralytics reads it (https://docs.ultralytics.com/datasets/segment/): a text file an image.

A line is `class x1 y1 x2 y2 ...`: the number of the class and one ring, in shares of the image's width and height. By
the count of numbers after the class:
    4 or 5        a box (with a confidence): no outline, left out and told
    6, 8, 10 ...  an outline of 3, 4, 5 ... points; the four corners of a turned box are one too
    7, 9, 11 ...  an outline, and the confidence of a prediction
A file without lines is an image that holds nothing; an image without a file is not annotated. Where files and images
lie: `yolo_layout`; the names of the classes: `yolo_classes`.

What is lost: parts and holes of an object are one ring here, whose seams (walked there and back, as Ultralytics' own
converter draws them) have no area; they are cut again when it is read, but parts that touch become one. Trainers that
take points along the ring anew may see a seam as a line of a pixel. Parts that overlap, and what reaches out of the
image, are written as their pixels. Scores are not written: Ultralytics takes no file with them.

No library: `ultralytics` (AGPL; torch, torchvision, matplotlib, polars) is a trainer that keeps no outlines;
`supervision` (av, matplotlib, scipy) turns each ring into a mask of its whole image, knows neither parts nor
confidences, and stops a whole set at one broken line. YAML is read by pyyaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from model.errors import BadRecord
from model.files import write_atomically
from model.formats.images import Found, ImageFinder
from model.formats.layout import annotation_files, written_path
from model.formats.losses import with_losses
from model.formats.masks import apart
from model.formats.pieces import Piece, check_labels, join
from model.formats.problems import OnProblem, Remark, noted, problem_line
from model.formats.shapes import ring
from model.formats.yolo_classes import Classes, read_classes, read_text, write_classes
from model.formats.yolo_layout import SUFFIX, Label, annotation_path, labels_in, root_of
from model.geometry import mask_to_polygons, polygons_to_mask, seamed, unseamed
from model.image_files import IMAGE_SUFFIXES
from model.records import Outline, Polygon, Record

BOX = (4, 5)
FEWEST = 6  # numbers of an outline
SLACK = 0.05  # share of an image by which a hand slips over its edge: cut off; what lies farther out is another mistake
DIGITS = 8  # of a share: of the largest images far less than a pixel's thousandth
NOT_TAKEN = (".jfif", ".jpe")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")

Size = tuple[int, int]


def read(source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
    """One record for each label file that a data.yaml leads to, or of a folder, or for one label file.

    What is broken is told to `on_problem`, and how many images have no label file.
    """
    if source.suffix.lower() != SUFFIX and not any(annotation_files(source, SUFFIX, on_problem)):
        return
    with noted(on_problem, source):
        root = root_of(source)
        finder, classes = ImageFinder(root, images), read_classes(source, root, on_problem)
        found: set[str] = set()
        for label in labels_in(source, root, classes, on_problem, found):
            with noted(on_problem, label.path):
                record = with_losses(partial(_record, label, classes, finder), on_problem)
                found.add(record.image)
                yield record


def write(records: Iterable[Record], folder: Path, classes: Sequence[str]) -> None:
    """Write labels/a.txt for the image images/a.jpg, and data.yaml with the classes; other files stay.

    Classes that a data.yaml has keep their numbers, new ones come after them. Images belong to the layout's
    `image_path`. Raises BadRecord for a label that is not among the classes, for an object outside of its image, and
    for an image whose ending Ultralytics does not know.
    """
    numbers = write_classes(folder, classes)
    for record in records:
        check_labels(record, classes)
        if written_path(folder, record.image).suffix.lower() in NOT_TAKEN:
            raise BadRecord(f"{record.image}: Ultralytics finds no images with that ending; rename the image to .jpg")
        path = folder / annotation_path(record.image)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{numbers[outline.label]} {_shares(outline, record)}\n" for outline in record.outlines]
        write_atomically(path, "".join(lines))


def _record(label: Label, classes: Classes, finder: ImageFinder, on_problem: OnProblem) -> Record:
    found = _image(label, finder)
    if found.path is None:
        places = " or ".join(str(folder) for folder in label.folders)
        raise BadRecord(f"its image {label.image} is not there (in {places}); give the folder of the images: --images")
    size_hw = finder.size_hw(found, None, None)
    rows = [(number, line.split()) for number, line in enumerate(read_text(label.path).splitlines(), start=1)]
    pieces: list[Piece] = []
    boxes: list[int] = []
    for number, row in ((number, row) for number, row in rows if row):
        with noted(on_problem, label.path, f"line {number}"):
            values = _numbers(row)
            name = classes.name(values[0])
            if len(values) - 1 in BOX:
                boxes.append(number)
                continue
            parts, score = _outline(values[1:], size_hw)
            pieces.append(Piece(name, parts, score=score))
    if boxes:
        lines = ", ".join(map(str, boxes[:5])) + (", ..." if len(boxes) > 5 else "")
        told = f"left out {len(boxes)} boxes, lines of 5 numbers or of 6 with a confidence ({lines}); outline them"
        on_problem(problem_line(label.path, told))
    if any(DECIMAL_COMMA.fullmatch(text) for _, row in rows for text in row):
        on_problem(Remark(problem_line(label.path, "its decimal commas are read as points")))
    return Record(found.name, size_hw, join(pieces))


def _image(label: Label, finder: ImageFinder) -> Found:
    """The image of a label file: a.png.txt is of a.png.jpg, and only where that is not there of a.png."""
    if label.image == label.path.stem and Path(label.image).suffix.lower() in IMAGE_SUFFIXES:
        longer = [finder.find(label.image + ending, label.folders) for ending in IMAGE_SUFFIXES]
        there = [found for found in longer if found.path is not None]
        if len(there) > 1:
            names = " or ".join(sorted(found.name for found in there))
            raise BadRecord(f"its image {label.image!r} may be {names}; leave one of them there")
        if there:
            return there[0]
    return finder.find(label.image, label.folders)


def _numbers(row: Sequence[str]) -> list[float]:
    try:
        return [float(text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text) for text in row]
    except ValueError as err:
        raise BadRecord(f"wanted numbers with blanks between them, got {' '.join(row)[:40]!r}; correct it") from err


def _outline(values: Sequence[float], size_hw: Size) -> tuple[tuple[Polygon, ...], float | None]:
    """Parts and confidence of the numbers after the class."""
    if len(values) < FEWEST:
        raise BadRecord(f"wanted a class and 3 points or more, got {len(values)} numbers after the class; complete it")
    score = values[-1] if len(values) % 2 else None
    points = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)
    farthest = points.ravel()[np.abs(points - 0.5).argmax()]
    if not abs(farthest - 0.5) <= 0.5 + SLACK:
        raise BadRecord(f"a coordinate is {farthest:g}, wanted shares of the image, 0..1; divide pixels by its size")
    if score is not None and not 0 <= score <= 1:
        raise BadRecord(f"the last of an odd count of numbers is a confidence, 0..1, got {score:g}; take it out")
    clipped = np.clip(points, 0, 1)
    if not np.ptp(clipped, axis=0).all():
        raise BadRecord("its outline has no area inside of the image; delete it or draw it again")
    return unseamed(ring(clipped * size_hw[::-1])), score


def _shares(outline: Outline, record: Record) -> str:
    """All parts as one ring, in shares of the image."""
    height, width = record.size_hw
    points = np.concatenate([part.exterior for part in outline.parts])
    parts = apart(outline.parts, record.size_hw)
    if (points < 0).any() or (points > (width, height)).any():
        parts = mask_to_polygons(polygons_to_mask(outline.parts, record.size_hw), 0)
    if not parts:
        raise BadRecord(f"a {outline.label!r} of {record.image} lies outside of its image; delete it")
    return " ".join(f"{share:.{DIGITS}g}" for share in (seamed(parts) / (width, height)).ravel().tolist())
