"""Where YOLO's label files and images lie: as Ultralytics' data.yaml says, or in a folder.

A data.yaml names the images of `train`, `val` and `test`: each a folder, a text file that lists images, or several of
them, below `path` or beside the yaml. Of a path that is not there (`../train/images` as Roboflow writes it, or one of
another machine) the end that is found counts. The labels of images/train/a.jpg are in labels/train/a.txt, those of an
image in no folder `images` beside it. Without a data.yaml all text files of a folder are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model.formats.images import parts_of_name
from model.formats.layout import annotation_files
from model.formats.problems import OnProblem, problem_line
from model.formats.yolo_classes import TEXTS, YAMLS, Classes, read_text, read_yaml
from model.image_files import IMAGE_SUFFIXES

IMAGES, LABELS, SUFFIX = "images", "labels", ".txt"
SPLITS = ("train", "val", "valid", "validation", "test", "minival")


@dataclass(frozen=True)
class Label:
    """A label file, the name of its image (maybe without ending), and the folders that this counts from."""

    path: Path
    image: str
    folders: Sequence[Path]


def root_of(source: Path) -> Path:
    """The folder that holds images and labels: `path` of a data.yaml if it is there, else where the source lies.

    Of a folder or file below `labels` it is the one that holds `labels` and `images`. BadRecord for a broken yaml.
    """
    if source.suffix.lower() in YAMLS:
        given = source.parent / str(read_yaml(source).get("path") or ".")
        return given if given.is_dir() else source.parent
    folder = source.parent if source.suffix.lower() == SUFFIX else source
    for path in (folder, *folder.parents):
        if path.name == LABELS and (path.parent / IMAGES).is_dir():
            return path.parent
    return folder


def image_path(image: str) -> str:
    """Where Ultralytics looks for an image: images/field/a.jpg for field/a.jpg, and images/a.jpg there."""
    return image if PurePosixPath(image).parts[:1] == (IMAGES,) else f"{IMAGES}/{image}"


def annotation_path(image: str) -> str:
    """Where the labels of an image are: labels/field/a.txt for field/a.jpg."""
    return _label_of(image_path(image))


def labels_in(
    source: Path, root: Path, classes: Classes, on_problem: OnProblem, found: Collection[str]
) -> Iterator[Label]:
    """All label files of a source, each once; images without one are told at the end, as not annotated.

    Those that were `found` by then for a label file of another name, such as an export's, are not told.
    """
    is_yaml = source.suffix.lower() in YAMLS
    splits = list(_splits(classes, root, on_problem)) if is_yaml or source == root else []
    seen: set[Path] = set()
    bare: dict[str, None] = {}
    for place in splits or [root if is_yaml else source]:
        is_list = bool(splits) and place.suffix == SUFFIX
        for label in _of_list(place, root, bare) if is_list else _of_folder(place, root, bare):
            if label.path not in seen:
                seen.add(label.path)
                yield label
    bare = {image: None for image in bare if image not in found}
    if bare:
        mend, first = "an empty one would say that the image holds nothing", ", ".join(list(bare)[:3])
        on_problem(problem_line(source, f"{len(bare)} images have no label file and are left out; {mend} ({first})"))
    elif not seen:
        on_problem(problem_line(source, f"found no label file where {classes.path} leads; correct it"))


def _splits(classes: Classes, root: Path, on_problem: OnProblem) -> Iterator[Path]:
    """Folders of images and lists of them that a data.yaml names; what is not there is told."""
    for split in SPLITS:
        entries = classes.data.get(split) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            place = _place(entry, root)
            if place is not None:
                yield place
            else:
                wanted = f"{split}: wanted a folder of images or a list of them in {root}"
                on_problem(problem_line(classes.path, f"{wanted}, got {entry!r}; correct it"))


def _place(entry: Any, root: Path) -> Path | None:
    """Where a folder or list lies, of whose path only the end may be there."""
    parts = parts_of_name(entry) if isinstance(entry, str) else []
    for start in range(len(parts)):
        place = root.joinpath(*parts[start:])
        if place.is_dir() or (place.is_file() and place.suffix == SUFFIX) or _swapped(place, root).is_dir():
            return place
    return root if isinstance(entry, str) and not parts else None


def _of_list(path: Path, root: Path, bare: dict[str, None]) -> Iterator[Label]:
    """The labels of the images that a file lists, a name on each line."""
    for line in filter(None, map(str.strip, read_text(path).splitlines())):
        parts = parts_of_name(line)
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        names = (name for end in ends for name in _labels_of(end))
        places = (base / name for name in names for base in (path.parent, root))
        if (label := next(filter(Path.is_file, places), None)) is not None:
            yield Label(label, line, (path.parent, root))
        else:
            bare[line] = None


def _of_folder(place: Path, root: Path, bare: dict[str, None]) -> Iterator[Label]:
    """The labels of a folder of images (which may lie elsewhere), or the labels in a folder, or one label file."""
    own: dict[Path, Path] = {}  # folders of images by the label files that these have
    for image in sorted(_swapped(place, root, LABELS, IMAGES).rglob("*")):
        name = image.relative_to(root)
        if image.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in name.parts):
            label = next(filter(Path.is_file, (root / path for path in _labels_of(name.as_posix()))), None)
            if label is None:
                bare[name.as_posix()] = None
            else:
                own[label] = image.parent
    labels = _swapped(place, root)
    files = annotation_files(labels if labels.is_dir() else place, SUFFIX, lambda nothing: None)
    for path in dict.fromkeys([*files, *own]):
        if path.name not in TEXTS:
            images = own.get(path, _swapped(path.parent, root, LABELS, IMAGES))
            yield Label(path, path.stem, tuple(dict.fromkeys((images, path.parent))))


def _labels_of(image: str) -> Iterator[str]:
    """Where the labels of an image may be: in the twin of its folder or beside it, on Windows also as a.TXT."""
    for path in (_label_of(image), _beside(image)):
        yield path
        yield path.removesuffix(SUFFIX) + SUFFIX.upper()


def _label_of(image: str) -> str:
    """Where the labels of an image are whose last folder `images` has a twin `labels`."""
    *folders, name = PurePosixPath(image).parts or ("",)
    return _beside("/".join([*_exchanged(folders, IMAGES, LABELS), name]))


def _beside(image: str) -> str:
    return str(PurePosixPath(image).with_suffix(SUFFIX)) if PurePosixPath(image).name else image


def _swapped(folder: Path, root: Path, old: str = IMAGES, new: str = LABELS) -> Path:
    """The twin of a folder below the root."""
    return root.joinpath(*_exchanged(folder.relative_to(root).parts, old, new))


def _exchanged(folders: Sequence[str], old: str, new: str) -> list[str]:
    """Folders with the last one of that name renamed."""
    last = max((index for index, name in enumerate(folders) if name == old), default=-1)
    return [new if index == last else name for index, name in enumerate(folders)]
