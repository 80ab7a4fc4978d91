"""One finder of images for all formats: which file an annotation file means by the name that it gives.

Tools name images as they knew them: with folders of another machine (`C:\\photos\\a.jpg`, `..\\images\\a.jpg`), without
an ending (CVAT's frames of a video), or by an address of Label Studio's (`/data/upload/1/0a1b2c3d-a.jpg`) or what its
converter leaves of one (`0a1b2c3d__my%20photo.jpg`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

from model.errors import BadRecord
from model.formats.layout import below, checked_size, image_size
from model.image_files import IMAGE_SUFFIXES

UPLOAD_PREFIX = re.compile("^[0-9a-f]{8}-")
"""What Label Studio puts in front of the name of an uploaded file."""

NOT_UPLOADED = re.compile(r"[^-\w.]")
"""Characters that Label Studio takes out of such a name; a blank becomes an underscore."""

DOWNLOAD_PREFIX = re.compile("^[0-9a-f]{8}__")
"""What Label Studio's converter puts in front of the name of a file that it fetched."""

LABEL_STUDIO = ("/data/", "?d=")
"""What its own addresses begin with, the second where its converter takes off all up to the last slash."""


class ImageElsewhere(BadRecord):
    """A name that leads out of the folder, and is not found in it otherwise."""


@dataclass(frozen=True)
class Found:
    """An image as its record names it, and its file; None if that is not there."""

    name: str
    path: Path | None


class ImageFinder:
    """Finds images below `images`, if that is given, and below the folder `root` of the annotations.

    Names of records count from `images`, or from `root` for what is only there (and everything without `images`).
    """

    def __init__(self, root: Path, images: Path | None = None) -> None:
        self.root, self.images = root, images
        self.bases = [root] if images is None else [images, root]
        self._folders: dict[Path, _Folder] = {}

    def find(self, name: Any, *folders: Sequence[Path]) -> Found:
        """The file that `name` stands for in one of the folders, those of the first group before the others'.

        First the name as it is given; else with fewer and fewer of its leading folders, in any case of letters, with
        the usual endings of images if it has none, and without what Label Studio puts in front or writes as %20: in
        `images` where the folders of the annotations are alike, or else right in it. Where nothing is found the name
        as it is given.
        Raises BadRecord for what is no name and where two files are meant equally; ImageElsewhere for an absolute name
        or one that leads out of `root` if it is not found elsewhere.
        """
        if not isinstance(name, str) or not name.strip():
            raise BadRecord(f"wanted the name of its image, got {name!r}; enter the name or delete the file")
        places = [[_relative(folder, self.root) for folder in group] for group in folders]
        for base in self.bases:
            literal = (_literal(base, name, group) for group in places)
            for files in chain(literal, self._alike(base, name, places)):
                if found := self._only(name, base, files):
                    return found
        try:
            return Found(below(places[0][0], name), None)
        except BadRecord as err:
            raise ImageElsewhere(f"{err}, or give the folder of the images with --images") from err

    def size_hw(self, image: Found, height: Any, width: Any, embedded: bytes | None = None) -> tuple[int, int]:
        """An image's size as a file tells it; where one number is null, 0 or missing, that of the image itself.

        The image may be `embedded` in the annotations. Raises BadRecord if the size cannot be true, or if the image is
        needed for it and cannot be read.
        """
        if not (_is_missing(height) or _is_missing(width)):
            return checked_size(height, width)
        return image_size(embedded or image.path or self.bases[0] / image.name)

    def _only(self, name: str, base: Path, files: Iterable[Path]) -> Found | None:
        """The one file, as its record names it; None without any, BadRecord for two."""
        told = sorted({file.relative_to(base).as_posix() for file in files})
        if not told:
            return None
        if len(told) > 1:
            raise BadRecord(f"its image {name!r} may be {' or '.join(told)} in {base}; leave one of them there")
        if base != self.bases[0] and (self.bases[0] / told[0]).is_file():
            raise BadRecord(f"its image {name!r} may be {told[0]} in {base} or in {self.bases[0]}; leave one there")
        return Found(told[0], base / told[0])

    def _alike(self, base: Path, name: str, places: Sequence[Sequence[str]]) -> Iterator[list[Path]]:
        """Files that the name may mean otherwise, the likeliest first."""
        around = [PurePosixPath(place) for group in places for place in group if place.partition("/")[0] != ".."]
        rings = [around]
        if base == self.images:
            rings = [[end for place in around for end in _ends(place)], [p for place in around for p in place.parents]]
        parts = parts_of_name(name)
        for start in range(len(parts)):
            *folders, last = parts[start:]
            for ring in rings:
                looked = [self._folder(base.joinpath(place, *folders)) for place in dict.fromkeys(ring)]
                for spelled in (_Folder.named, _Folder.ending, _Folder.uploaded, _Folder.fetched):
                    yield [file for folder in looked for file in spelled(folder, last)]

    def _folder(self, path: Path) -> _Folder:
        """What a folder holds, which is read once."""
        if path not in self._folders:
            self._folders[path] = _Folder(path)
        return self._folders[path]


class _Folder:
    """The files of a folder by names that are spelled alike."""

    def __init__(self, path: Path) -> None:
        self.by_name: dict[str, list[Path]] = {}
        self.by_upload: dict[str, list[Path]] = {}
        files = [entry.name for entry in os.scandir(path) if entry.is_file()] if path.is_dir() else []
        for name in sorted(files):
            self.by_name.setdefault(_folded(name), []).append(path / name)
            self.by_upload.setdefault(_uploaded(name), []).append(path / name)

    def named(self, name: str) -> list[Path]:
        """Files of that name: exactly, or else in other letters (Ä in one or two characters, .JPG for .jpg)."""
        files = self.by_name.get(_folded(name), [])
        return [file for file in files if file.name == name] or files

    def ending(self, name: str) -> list[Path]:
        """Files of that name with the ending of an image, if the name has none."""
        return [file for ending in _endings(name) for file in self.by_name.get(_folded(name + ending), [])]

    def uploaded(self, name: str) -> list[Path]:
        """Files that Label Studio would give that name, were they uploaded."""
        own = UPLOAD_PREFIX.sub("", name)
        if own == name:
            return []
        return [file for ending in ("", *_endings(own)) for file in self.by_upload.get(_uploaded(own + ending), [])]

    def fetched(self, name: str) -> list[Path]:
        """Files that Label Studio's converter gives that name once it has fetched them by their addresses."""
        own = unquote(DOWNLOAD_PREFIX.sub("", name))
        return [] if own == name else self.named(own) or self.ending(own)


def image_file(name: str, root: Path, images: Path | None) -> Path:
    """Where the image of a record lies that was read with an ImageFinder for those folders; it may be missing."""
    first = (images or root) / name
    return first if first.is_file() or not (root / name).is_file() else root / name


def parts_of_name(name: str) -> list[str]:
    """Folders and name of an image without what leads to another machine: a drive, a host, `..`."""
    if "://" in name or name.startswith(LABEL_STUDIO):
        address = urlsplit(name)
        name = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    posix = name.replace("\\", "/").removeprefix(PureWindowsPath(name).drive.replace("\\", "/"))
    return [part for part in posix.split("/") if part.strip() not in ("", ".", "..") and "\0" not in part]


def _ends(place: PurePosixPath) -> Iterator[PurePosixPath]:
    """A place and, without more and more of its leading folders, where it may be in a folder of images only."""
    for start in range(max(len(place.parts), 1)):
        yield PurePosixPath(*place.parts[start:])


def _relative(folder: Path, root: Path) -> str:
    return os.path.relpath(folder, root).replace(os.sep, "/")


def _literal(base: Path, name: str, places: Iterable[str]) -> list[Path]:
    """Files of exactly that name, counted from the places below the base."""
    found = []
    for place in places:
        try:
            path = base / below(place, name)
        except BadRecord:
            continue
        if path.is_file():
            found.append(path)
    return found


def _endings(name: str) -> Sequence[str]:
    return () if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else IMAGE_SUFFIXES


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()


def _uploaded(name: str) -> str:
    return _folded(NOT_UPLOADED.sub("", normalize("NFC", name).strip().replace(" ", "_")))


def _is_missing(side: Any) -> bool:
    return side is None or side == 0 or (isinstance(side, str) and side.strip() in ("", "0"))
