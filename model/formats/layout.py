"""Where annotation files and their images lie, and how large an image is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from model.errors import BadImageFile, BadRecord
from model.files import TEMPORARY_PREFIX
from model.formats.problems import BROKEN, OnProblem, problem_line
from model.image_files import upright_size

MOST_PIXELS = 2**30  # of one image: more is a broken file, and its masks would fill the memory
ARCHIVES = (".7z", ".gz", ".rar", ".tar", ".tgz", ".zip")
NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|(^|/)[A-Za-z]:")
"""Control characters, backslashes, what is no text, and what is a drive on Windows."""


def root_of(source: Path) -> Path:
    """The folder that image paths are relative to."""
    return source if source.is_dir() else source.parent


def annotation_files(source: Path, suffix: str, on_problem: OnProblem, *, folder: str | None = None) -> Iterator[Path]:
    """`source` itself, or all files below it with the suffix (.json, .JSON) in a stable order, hidden ones left out.

    With `folder` ("ann") only files in folders of that name. Nothing found is a problem, and so is an archive.
    """
    if source.is_file() and source.suffix.lower() in ARCHIVES:
        mend = "unpack it and give its folder"
        on_problem(problem_line(source, f"wanted a folder or one of its files, got an archive; {mend}"))
        return
    if source.is_file():
        yield source
        return
    found = False
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() == suffix):
        hidden = any(part.startswith((".", TEMPORARY_PREFIX)) for part in path.relative_to(source).parts)
        if path.is_file() and not hidden and folder in (None, path.parent.name):
            found = True
            yield path
    if not found:
        place = f"a folder {folder} with {suffix} files" if folder else f"{suffix} files"
        on_problem(
            problem_line(source, f"wanted {place}, found none; give the folder of the export or one of its files")
        )


def below(folder: str, name: str) -> str:
    """The POSIX path, counted from a root, of a name in one of its folders ("." is the root); it may hold backslashes.

    Raises BadRecord for a name that is absolute, an address, or leads out of the root.
    """
    posix = name.replace("\\", "/")
    if PurePosixPath(posix).is_absolute() or PureWindowsPath(posix).drive or "\0" in posix or "://" in posix:
        raise BadRecord(f"its image {name!r} has an absolute path; make it relative to the file")
    path = os.path.normpath(os.path.join(folder, posix)).replace(os.sep, "/")
    if path in (".", "..") or path.startswith("../"):
        raise BadRecord(f"its image {name!r} lies outside of the folder; give the folder that holds both")
    return path


def is_plain(image: str) -> bool:
    """Whether every tool and file system can hold the name of an image."""
    return not NOT_IN_NAMES.search(image) and all(part == part.strip() for part in image.split("/"))


def written_path(folder: Path, image: str) -> Path:
    """Where an image with that name lies in a folder that is written.

    Raises BadRecord if the name leads out of it, or holds what not every tool and file system takes.
    """
    if not is_plain(image):
        raise BadRecord(f"the image {image!r} has a name that annotation tools cannot hold; rename it")
    if image.startswith("./") or PurePosixPath(image).as_posix() != image:
        raise BadRecord(f"wanted the image as a path like 'field/a.jpg', got {image!r}; correct the record")
    return folder / below(".", image)


def beside(image: str, suffix: str) -> str:
    """The path of an image's annotations where tools keep them beside it: a.json of a.jpg."""
    return str(PurePosixPath(image).with_suffix(suffix))


def claimed(path: Path, image: str, image_of: Callable[[Path], str]) -> Path:
    """`path` in an existing folder; BadRecord if it holds the annotations of another image (a.jpg and a.png)."""
    if path.exists():
        owner_is(image, path, image_of)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def owner_is(image: str, path: Path, image_of: Callable[[Path], str]) -> bool:
    """True where a file holds the annotations of that image; BadRecord says what it holds else."""
    try:
        other = image_of(path)
    except BROKEN as err:
        raise BadRecord(f"{path} is no annotation of {image}; move it away, or choose another folder") from err
    if other != image:
        raise BadRecord(f"{path} belongs to {other}, not to {image}; rename one of the two images")
    return True


def checked_size(height: Any, width: Any) -> tuple[int, int]:
    """An image's (height, width) as a file tells them; numbers may be text. BadRecord if they cannot be true."""
    size = float(height), float(width)
    if not all(side >= 1 and side.is_integer() for side in size) or size[0] * size[1] > MOST_PIXELS:
        raise BadRecord(f"its image has the size {width} x {height}, wanted whole numbers of pixels; export it again")
    return int(size[0]), int(size[1])


def image_size(content: Path | bytes) -> tuple[int, int]:
    """Upright (height, width) of an image file or of its bytes; BadRecord if it is none."""
    try:
        data = content if isinstance(content, bytes) else content.read_bytes()
        return upright_size(data, "its image" if isinstance(content, bytes) else str(content), MOST_PIXELS / 1e6)
    except (OSError, BadImageFile) as err:
        raise BadRecord(f"the size of its image is not in the file, and the image cannot be read ({err})") from err
