"""The names of YOLO's classes: `names` of a data.yaml, or the lines of a classes.txt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from model.errors import BadRecord
from model.files import write_atomically
from model.formats.problems import OnProblem, problem_line
from model.written_out import WrittenOut

DATA = "data.yaml"
YAMLS = (".yaml", ".yml")
TEXTS = ("classes.txt", "obj.names")
HEAD = "# Training and validation images are the same here: divide them before you trust a score.\n"
NULL, NOTHING = "tag:yaml.org,2002:null", re.compile("^(~|null|Null|NULL|)$")

Json = dict[str, Any]


class _Loader(WrittenOut, yaml.BaseLoader):
    """YAML whose values stay text, so that a class may be called no, on or 007; only nothing at all is None."""

    yaml_implicit_resolvers = {first: [(NULL, NOTHING)] for first in ("~", "n", "N", "")}  # noqa: RUF012 (pyyaml's)
    yaml_constructors = {NULL: lambda loader, node: None}  # noqa: RUF012

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose keys differ, as YAML wants it; pyyaml takes the last of several."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


@dataclass(frozen=True)
class Classes:
    """Names of classes by their number; None for one without a name. `data` is all that a data.yaml holds."""

    path: Path
    names: Mapping[int, str | None]
    data: Json

    def name(self, number: float) -> str:
        """The name of a class; BadRecord if the number is none, or the file has no name for it."""
        name = self.names.get(int(number)) if float(number).is_integer() else None
        if name is None:
            known = f"its classes are {min(self.names)}..{max(self.names)}" if self.names else "it has none"
            raise BadRecord(f"class {number:g} has no name in {self.path}, {known}; name it there or correct the line")
        return name


def read_classes(source: Path, root: Path, on_problem: OnProblem) -> Classes:
    """The classes of a source: of a data.yaml itself, else of the nearest file from its folder up to the root.

    Raises BadRecord if there is none, it is broken or of a pose data set, or it is not clear which one counts.
    """
    if source.suffix.lower() in YAMLS:
        return _of_yaml(source)
    folder = source if source.is_dir() else source.parent
    above = [folder, *takewhile(lambda path: path != root.parent, folder.parents)]
    for place in above:
        if found := _in_folder(place, on_problem):
            return found
    raise BadRecord(
        f"wanted the names of the classes in {DATA} or {TEXTS[0]}, found neither in {root}; add one of them"
    )


def write_classes(folder: Path, classes: Sequence[str]) -> Mapping[str, int]:
    """Write a data.yaml with the classes, and give their numbers.

    Those of a data.yaml that is there keep theirs, new ones come after them; all else in it stays, but for comments.
    BadRecord if that file is broken.
    """
    path = folder / DATA
    known = _of_yaml(path).names if path.exists() else {}
    new = [name for name in classes if name not in known.values()]
    names = {**known, **dict(enumerate(new, start=max(known, default=-1) + 1))}
    if new or not path.exists():
        content = yaml.safe_load(path.read_bytes()) if path.exists() else {"train": "images", "val": "images"}
        content |= {"nc": len(names)} if "nc" in content else {}
        text = yaml.safe_dump(content | {"names": names}, sort_keys=False, allow_unicode=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text if path.exists() else HEAD + text)
    return {name: number for number, name in names.items() if name is not None}


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; BadRecord if it is another one."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRecord(f"wanted text in UTF-8 in {path}, got something else ({err}); save it as UTF-8") from err


def read_yaml(path: Path) -> Json:
    """What a YAML file holds, its values as text; BadRecord if it is none or no mapping."""
    try:
        content = yaml.load(read_text(path), _Loader)
    except (yaml.YAMLError, RecursionError) as err:
        raise BadRecord(f"wanted YAML in {path}, got something else ({err}); correct it") from err
    if not isinstance(content, dict):
        raise BadRecord(f"wanted 'names', 'train' and 'val' in {path}, got other YAML; take another file")
    return content


def _in_folder(folder: Path, on_problem: OnProblem) -> Classes | None:
    """The classes that a folder's data.yaml, only other yaml with names, or classes.txt tells."""
    data = [folder / DATA] if (folder / DATA).is_file() else _others(folder)
    texts = [_of_text(folder / name) for name in TEXTS if (folder / name).is_file()]
    found = [*map(_of_yaml, data), *texts]
    others = [other for other in found[1:] if other.names != found[0].names]
    if others and others[0].path.suffix in YAMLS:
        files = f"{found[0].path} and {others[0].path.name}"
        raise BadRecord(f"{files} name other classes; give the one that counts instead of the folder")
    if others:
        on_problem(problem_line(others[0].path, f"names other classes than {found[0].path.name}, which counts"))
    return found[0] if found else None


def _others(folder: Path) -> list[Path]:
    """Files of YAML that name classes."""
    return [path for path in sorted(folder.glob("*")) if path.suffix.lower() in YAMLS and _has_names(path)]


def _has_names(path: Path) -> bool:
    try:
        return "names" in read_yaml(path)
    except (BadRecord, OSError):
        return False


def _of_yaml(path: Path) -> Classes:
    data = read_yaml(path)
    names = data.get("names")
    if "kpt_shape" in data:
        raise BadRecord(f"{path} is of a pose data set (kpt_shape), whose lines are no outlines; take one of outlines")
    if isinstance(names, list):
        return Classes(path, _stripped(enumerate(names), path), data)
    if isinstance(names, dict):
        return Classes(path, _stripped(names.items(), path), data)
    raise BadRecord(f"wanted the names of the classes as a list or numbered in {path}, got {names!r:.60}; correct it")


def _of_text(path: Path) -> Classes:
    return Classes(path, _stripped(enumerate(read_text(path).rstrip().splitlines()), path), {})


def _stripped(names: Iterable[tuple[Any, Any]], path: Path) -> Mapping[int, str | None]:
    try:
        return {int(number): (name or "").strip() or None for number, name in names}
    except (ValueError, TypeError, AttributeError) as err:
        raise BadRecord(f"wanted a number and a name for each class in {path} ({err}); correct it") from err
