"""All annotation formats that can be read and written, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.formats import coco, cvat, darwin, labelme, labelme_xml, supervisely
from model.formats.problems import OnProblem
from model.records import Record

Read = Callable[[Path, OnProblem], Iterator[Record]]
"""Reads a folder or one file; images are told as POSIX paths relative to the folder (of the file).

Nothing in a file raises: each broken file or object is one line "file: place: reason" to the callable, and the rest is
read. Images need not be there, but for a file that does not tell the size of its image.
"""

Write = Callable[[Iterable[Record], Path, Sequence[str]], None]
"""Writes records with their classes, not images, into a folder that is made if it is missing.

Raises BadRecord for a label that is not among the classes and for an image path that leads out of the folder.
"""


def _as_it_is(image: str) -> str:
    return image


@dataclass(frozen=True)
class Format:
    """One annotation format.

    Where `is_one_file`, all records go into one call of `write`, which replaces an older file; else each call adds the
    files of its records to the folder. `image_path` tells where in the folder the tool looks for the image of a record;
    what is there already stays there.
    """

    title: str
    read: Read
    write: Write
    is_one_file: bool
    image_path: Callable[[str], str] = _as_it_is


FORMATS: dict[str, Format] = {
    "coco": Format("COCO instances", coco.read_records, coco.write_records, is_one_file=True),
    "cvat": Format("CVAT for images 1.1", cvat.read, cvat.write, is_one_file=True),
    "darwin": Format("V7 Darwin JSON", darwin.read, darwin.write, is_one_file=False),
    "labelme": Format("LabelMe JSON", labelme.read, labelme.write, is_one_file=False),
    "labelme_xml": Format("LabelMe 3.0 XML (of CVAT)", labelme_xml.read, labelme_xml.write, is_one_file=False),
    "supervisely": Format(
        "Supervisely project", supervisely.read, supervisely.write, is_one_file=False, image_path=supervisely.image_path
    ),
}
