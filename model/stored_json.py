"""JSON files of our own, read as what they should hold: a damaged disk or an editor may have left something else.

By the standard library alone, so that versions are read where there is little more than torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from model.errors import DamagedFile, NewerFormat
from model.files import read_json

Kind = TypeVar("Kind")

LONGEST_SHOWN = 60
"""Characters of a wrong value in an error."""

PLAIN = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
"""What plain kinds are called in an error."""


class _Wrong(ValueError):
    """A value that is not what was wanted, and where in the file it stands, from the outside in."""

    def __init__(self, wanted: str, value: Any) -> None:
        text = repr(value)
        self.wanted, self.place = wanted, tuple[str, ...]()
        self.got = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."

    def __str__(self) -> str:
        place = f" as {'.'.join(self.place)}" if self.place else ""
        return f"wanted {self.wanted}{place}, got {self.got}"


def read_as(path: Path, kind: type[Kind], *, known_format: int | None = None) -> Kind:
    """A JSON file as a dataclass, or a type such as dict[int, str]; keys that the dataclass does not have are left out.

    With a `known_format` its `format`, which counts as 1 where it is missing, is looked at first: NewerFormat if it is
    above. DamagedFile says what in the file is of another kind; OSError if it cannot be opened.
    """
    stored = read_json(path)
    if known_format is not None:
        _check_format(stored, known_format, path)
    return as_kind(stored, kind, str(path))


def as_kind(value: Any, kind: type[Kind], source: str) -> Kind:
    """What JSON says (`value`) as `read_as` has it; `source` is the file's name in the error."""
    try:
        result: Kind = _as(value, kind)
    except _Wrong as err:
        raise DamagedFile(f"{source} is damaged: {err}; restore the file or delete it") from err
    return result


def line_as(line: str | bytes, kind: type[Kind]) -> Kind:
    """One line of JSON as `read_as` has a file; ValueError if it is none, or of another kind."""
    result: Kind = _as(json.loads(line), kind)
    return result


@dataclass(frozen=True)
class _Formatted:
    format: int = 1

    def __post_init__(self) -> None:
        if self.format < 1:
            raise ValueError("a format of 1 or more")


def _check_format(stored: Any, known: int, path: Path) -> None:
    found = as_kind(stored, _Formatted, str(path)).format
    if found > known:
        raise NewerFormat(
            f"{path} has format {found}, this release knows up to {known}: a newer maskal-studio wrote it; upgrade, "
            "or restore DATA_DIR from a backup of before"
        )


def _as(value: Any, kind: Any) -> Any:
    """A value of JSON as a dataclass, a plain kind, a kind or None, or a collection of such; _Wrong if it is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):  # of one kind and None: no file holds another
        return None if value is None else _as(value, next(one for one in inner if one is not NoneType))
    if is_dataclass(kind):
        return _as_dataclass(value, kind)
    if origin is dict:
        return dict(_items(value, *inner))
    if origin in (list, tuple, frozenset):
        return origin(_elements(value, inner))
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise _Wrong(PLAIN[kind], value)


def _as_dataclass(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        raise _Wrong("an object", value)
    hints, found = _hints(kind), dict[str, Any]()
    for field in fields(kind):
        if field.name in value:
            found[field.name] = _inside(field.name, value[field.name], hints[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _Wrong(f"a value for {field.name}", value)
    try:
        return kind(**found)
    except ValueError as err:
        raise _Wrong(str(err), value) from err


def _items(value: Any, key: Any, kind: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(value, dict):
        raise _Wrong("an object", value)
    for name, one in value.items():
        if key is int and not name.removeprefix("-").isdecimal():
            raise _Wrong("whole numbers as names", name)
        yield key(name), _inside(name, one, kind)


def _elements(value: Any, kinds: tuple[Any, ...]) -> Iterator[Any]:
    """The elements of a list or set, all of one kind, or of a tuple, (X, ...) or each of its own."""
    if not isinstance(value, list):
        raise _Wrong("a list", value)
    each = kinds if len(kinds) > 1 and kinds[-1] is not Ellipsis else (kinds[0],) * len(value)
    if len(each) != len(value):
        raise _Wrong(f"a list of {len(each)}", value)
    for index, (one, kind) in enumerate(zip(value, each, strict=True)):
        yield _inside(str(index), one, kind)


def _inside(name: str, value: Any, kind: Any) -> Any:
    try:
        return _as(value, kind)
    except _Wrong as err:
        err.place = (name, *err.place)
        raise


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
