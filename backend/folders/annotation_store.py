"""Where the outlines of a folder's images go, so that what is done is kept and never done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from backend.errors import BadSetting
from model.errors import BadRecord
from model.files import append_lines, write_atomically
from model.formats.table import Output
from model.records import Outline, Polygon, Record

JOURNAL_PREFIX = ".unfinished-"


class Store(Protocol):
    """Keeps one record for each image."""

    def has(self, image: str) -> bool:
        """Whether the image is done; BadRecord if something else lies in its place."""
        ...

    def add(self, record: Record) -> None:
        """Keep one more, in any thread; BadRecord if the format cannot hold it."""
        ...

    def finish(self, images: Sequence[str]) -> None:
        """All that could be done of these images is."""
        ...


class FilesBesideImages:
    """A file for each image: those that are there are done, unless they are to be overwritten."""

    def __init__(self, form: Output, folder: Path, classes: Sequence[str], *, overwrite: bool) -> None:
        self.form, self.folder, self.classes, self.overwrite = form, folder, classes, overwrite
        form.write((), folder, classes)  # what all images share, or what is wrong with it

    def has(self, image: str) -> bool:
        """Whether the image has its file; BadRecord if another's lies in its place."""
        return not self.overwrite and self.form.holds(self.folder, image)

    def add(self, record: Record) -> None:
        """Write the image's file; BadRecord if it cannot be written."""
        self.form.write((record,), self.folder, self.classes)

    def finish(self, images: Sequence[str]) -> None:
        """Nothing is left to do."""


class OneFile:
    """One file for all images, written at the end; until then a journal in the folder keeps what is done.

    `settings` are what the outlines depend on. Raises BadSetting where the file is there already, or a journal that was
    begun with other settings, unless they are to be overwritten.
    """

    def __init__(
        self,
        form: Output,
        folder: Path,
        classes: Sequence[str],
        settings: Mapping[str, Any],
        *,
        overwrite: bool,
    ) -> None:
        self.form, self.folder, self.classes = form, folder, classes
        self.path = folder / form.annotation_path("")
        self.journal = folder / f"{JOURNAL_PREFIX}{self.path.name}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not overwrite:
            raise BadSetting(f"{self.path} is there already; give another --out, or --overwrite")
        if overwrite:
            self.journal.unlink(missing_ok=True)
        self.done = self._begun(json.dumps(settings, sort_keys=True))
        self._lock = Lock()

    def has(self, image: str) -> bool:
        """Whether the image is in the journal."""
        return image in self.done

    def add(self, record: Record) -> None:
        """Note the record in the journal."""
        line = json.dumps(encode(record)) + "\n"
        with self._lock:
            append_lines(self.journal, line)
            self.done[record.image] = record

    def finish(self, images: Sequence[str]) -> None:
        """Write the file, with the images in that order, and remove the journal."""
        self.form.write([self.done[image] for image in images if image in self.done], self.folder, self.classes)
        self.journal.unlink(missing_ok=True)

    def _begun(self, settings: str) -> dict[str, Record]:
        """What the journal holds, which is begun if there is none; a line that a kill cut off is cut away."""
        text = self.journal.read_text() if self.journal.exists() else ""
        first, *rows = text[: text.rfind("\n") + 1].splitlines() or [settings]
        if first != settings:
            raise BadSetting(
                f"{self.journal} was begun with other weights, classes or thresholds; give the same ones to go on, or "
                "--overwrite to start anew"
            )
        try:
            done = {record.image: record for record in map(decode, map(json.loads, rows))}
        except (ValueError, KeyError, TypeError, BadRecord) as err:
            raise BadSetting(f"{self.journal} is damaged ({err}); start anew with --overwrite") from err
        write_atomically(self.journal, "\n".join([first, *rows, ""]))
        return done


def encode(record: Record) -> dict[str, Any]:
    """A record as JSON."""
    outlines = [
        {
            "label": outline.label,
            "score": outline.score,
            "parts": [[ring.tolist() for ring in (part.exterior, *part.holes)] for part in outline.parts],
        }
        for outline in record.outlines
    ]
    return {"image": record.image, "size_hw": record.size_hw, "outlines": outlines}


def decode(row: Mapping[str, Any]) -> Record:
    """The record of what `encode` made; the first ring of a part is its outer one."""
    outlines = []
    for entry in row["outlines"]:
        rings = [[np.array(ring, float) for ring in part] for part in entry["parts"]]
        parts = tuple(Polygon(outer, tuple(holes)) for outer, *holes in rings)
        outlines.append(Outline(entry["label"], parts, entry["score"]))
    height, width = row["size_hw"]
    return Record(row["image"], (height, width), tuple(outlines))
