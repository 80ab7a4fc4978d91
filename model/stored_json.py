"""JSON files of our own, read as what they should hold: a damaged disk or an editor may have left something else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from model.errors import DamagedFile, NewerFormat
from model.files import read_json

Kind = TypeVar("Kind")

LONGEST_SHOWN = 60
"""Characters of a wrong value in an error."""


@dataclass(frozen=True)
class _Formatted:
    format: Annotated[int, Field(ge=1)] = 1


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
        return line_as(json.dumps(value), kind)
    except ValidationError as err:
        wrong = err.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "the whole"
        raise DamagedFile(
            f"wanted another value in {source}: {place}: {wrong['msg']}, got {_short(wrong['input'])}; restore the "
            "file or delete it"
        ) from err


def line_as(line: str | bytes, kind: type[Kind]) -> Kind:
    """One line of JSON as `read_as` has a file; ValueError if it is none, or of another kind."""
    return _reader(kind).validate_json(line, strict=True)  # type: ignore[arg-type]


def _check_format(stored: Any, known: int, path: Path) -> None:
    found = as_kind(stored, _Formatted, str(path)).format
    if found > known:
        raise NewerFormat(
            f"{path} has format {found}, this release knows up to {known}: a newer maskal-studio wrote it; upgrade, "
            "or restore DATA_DIR from a backup of before"
        )


@cache
def _reader(kind: type[Kind]) -> TypeAdapter[Kind]:
    return TypeAdapter(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
