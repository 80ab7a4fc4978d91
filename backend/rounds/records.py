"""What a round learns from and is measured on: its snapshot as records, and their images."""

from __future__ import annotations

import numpy as np

from backend.label_studio.annotations import read_outlines
from backend.project.workplace import Workplace
from backend.rounds.evaluation_copies import left_out_of_evaluation
from backend.rounds.folder import AnnotatedImage, Round
from model.records import Record


def records_of(place: Workplace, current: Round, split: str) -> tuple[list[Record], dict[str, str]]:
    """The round's records of a split, and their images' addresses by record; what is held out without near copies."""
    left_out = left_out_of_evaluation(current)
    rows: list[AnnotatedImage] = [row for row in current.annotated() if row.split == split and row.task not in left_out]
    labels = current.labels()
    records = []
    for row in rows:
        annotation = {"id": row.annotation, "result": row.regions}
        outlines, unread = read_outlines(annotation, labels, row.size_hw)
        if unread:  # read by a release that did not leave it out yet
            continue
        records.append(Record(str(row.task), row.size_hw, outlines))
    return records, {str(row.task): row.uri for row in rows}


def groups_of(current: Round) -> dict[str, str]:
    """What each of the round's images belongs to, by record: a group of images, or itself."""
    return {str(row.task): row.group or str(row.task) for row in current.annotated()}


class Loader:
    """Loads a record's image."""

    def __init__(self, place: Workplace, uris: dict[str, str]) -> None:
        self.place, self.uris = place, uris

    def __call__(self, name: str) -> np.ndarray:
        """By the record's name; BadImage if it cannot be read."""
        return self.place.images.load(self.uris[name], int(name))

    def of(self, record: Record) -> np.ndarray:
        """By the record."""
        return self(record.image)
