"""All annotation formats that can be read and written, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from model.formats import coco, cvat, darwin, labelme, labelme_xml, supervisely, yolo, yolo_layout
from model.formats.layout import beside, owner_is, root_of
from model.formats.problems import OnProblem
from model.records import Record


class Read(Protocol):
    """Reads a folder or one file; images are told as POSIX paths relative to the folder (of the file).

    With `images`, a folder, they are looked for there first, and told relative to it; see ImageFinder. Nothing in a
    file raises: each broken file or object is one line "file: place: reason" to `on_problem`, and the rest is read.
    Images need not be there, but for a file that does not tell the size of its image.
    """

    def __call__(self, source: Path, on_problem: OnProblem, images: Path | None = None) -> Iterator[Record]:
        """One record for each annotated image."""
        ...


Write = Callable[[Iterable[Record], Path, Sequence[str]], None]
"""Writes records with their classes, not images, into a folder that is made if it is missing.

Raises BadRecord for a label that is not among the classes and for an image path that leads out of the folder.
"""


def _as_it_is(image: str) -> str:
    return image


def _none(folder: Path, image: str) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Output:
    """How records are written for a tool.

    annotation_path  where in the folder the annotations of an image are
    is_one_file      all records go into one call of `write`, which replaces an older file; else each call adds the
                     files of its records to the folder
    image_path       where in the folder the tool looks for the image of a record; what is there already stays there
    wants_images     the tool opens images from the folder, they are not known to it otherwise
    image_of         the name of the image that a file annotates, where that can be told
    mask_folder      name of folders with images that are masks
    """

    title: str
    write: Write
    annotation_path: Callable[[str], str]
    is_one_file: bool = False
    image_path: Callable[[str], str] = _as_it_is
    wants_images: bool = False
    image_of: Callable[[Path], str] | None = None
    mask_folder: str | None = None

    def holds(self, folder: Path, image: str) -> bool:
        """Whether a folder holds annotations of an image; BadRecord if what lies there in their place is another's."""
        path = folder / self.annotation_path(image)
        return path.exists() and (self.image_of is None or owner_is(PurePosixPath(image).name, path, self.image_of))


@dataclass(frozen=True, kw_only=True)
class Format(Output):
    """One annotation format.

    root            the folder that the images of a source are told relative to
    embedded_image  the image file of a record that was read, where the annotations hold it
    """

    read: Read
    root: Callable[[Path], Path] = root_of
    embedded_image: Callable[[Path, str], bytes | None] = _none


FORMATS: dict[str, Format] = {
    "coco": Format(
        title="COCO instances",
        read=coco.read_records,
        write=coco.write_records,
        annotation_path=lambda image: coco.FILE_NAME,
        is_one_file=True,
    ),
    "cvat": Format(
        title="CVAT for images 1.1",
        read=cvat.read,
        write=cvat.write,
        annotation_path=lambda image: cvat.FILE_NAME,
        is_one_file=True,
    ),
    "darwin": Format(
        title="V7 Darwin JSON",
        read=darwin.read,
        write=darwin.write,
        annotation_path=partial(beside, suffix=darwin.SUFFIX),
        image_of=darwin.image_of,
    ),
    "labelme": Format(
        title="LabelMe JSON",
        read=labelme.read,
        write=labelme.write,
        annotation_path=partial(beside, suffix=labelme.SUFFIX),
        image_of=labelme.image_of,
        wants_images=True,
        embedded_image=labelme.embedded_image,
    ),
    "labelme_xml": Format(
        title="LabelMe 3.0 XML (of CVAT)",
        read=labelme_xml.read,
        write=labelme_xml.write,
        annotation_path=partial(beside, suffix=labelme_xml.SUFFIX),
        image_of=labelme_xml.image_of,
        mask_folder=labelme_xml.MASKS,
    ),
    "supervisely": Format(
        title="Supervisely project",
        read=supervisely.read,
        root=supervisely.root_of,
        write=supervisely.write,
        annotation_path=supervisely.annotation_path,
        image_path=supervisely.image_path,
        wants_images=True,
    ),
    "yolo": Format(
        title="YOLO segmentation (Ultralytics)",
        read=yolo.read,
        root=yolo_layout.root_of,
        write=yolo.write,
        annotation_path=yolo_layout.annotation_path,
        image_path=yolo_layout.image_path,
        wants_images=True,
    ),
}


def format_for(name: str, supervisely_meta_json: Path | None = None) -> Format:
    """The format with that key, for Supervisely with the meta.json of an existing project."""
    if supervisely_meta_json is None:
        return FORMATS[name]
    return replace(FORMATS[name], write=partial(supervisely.write, meta_json=supervisely_meta_json))
