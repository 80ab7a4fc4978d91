"""The images of annotated records in a folder: each decoded and compared with its record before anything is learned."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.errors import BadImageFile, BadRecord
from model.image_files import Depths, decode_checked
from model.records import Record

logger = logging.getLogger(__name__)

NAMED = 5
"""Reasons that an error or a warning names."""


def with_repeats(records: Sequence[Record]) -> list[Record]:
    """The records, those that are not the only ones of their image with a line about it in `unread`.

    Tools that number the frames of several videos write such names: which of the annotations is the image's own, nobody
    can tell.
    """
    counts = Counter(record.image for record in records)
    lines = {image: f"{number} annotations are of an image with that name" for image, number in counts.items()}
    return [
        replace(record, unread=(*record.unread, lines[record.image])) if counts[record.image] > 1 else record
        for record in records
    ]


def fully_read(records: Sequence[Record]) -> list[Record]:
    """The records without those of which something could not be read, or that share an image; one warning names them.

    Raises BadRecord if none is left of several.
    """
    records = with_repeats(records)
    whole = [record for record in records if not record.unread]
    if len(whole) == len(records):
        return whole
    reasons = named([f"{record.image}: {record.unread[0]}" for record in records if record.unread])
    told = f"{len(records) - len(whole)} of {len(records)} images are left out, not all of them can be read: {reasons}"
    if not whole:
        raise BadRecord(told)
    logger.warning("%s", told)
    return whole


@dataclass(frozen=True)
class RecordImages:
    """The images of records in a folder, each of at most so many megapixels."""

    folder: Path
    max_megapixels: float

    def check(self, records: Iterable[Record]) -> None:
        """Decode all images, with one warning if all that have 16 bits are nearly black.

        Raises BadRecord that names those that cannot be used, and why.
        """
        depths, problems, total = Depths(), list[str](), 0
        for record in records:
            total += 1
            try:
                self.load(record, depths)
            except BadImageFile as err:
                problems.append(str(err))
        if problems:
            raise BadRecord(f"{len(problems)} of {total} images cannot be used: {named(problems)}")
        if depths.warning:
            logger.warning("%s", depths.warning)

    def load(self, record: Record, depths: Depths | None = None) -> np.ndarray:
        """The image, RGB uint8 (h, w, 3); BadImageFile if it cannot be read or is not of the record's size."""
        name = str(self.folder / record.image)
        return decode_checked(self.content(record), name, record.size_hw, self.max_megapixels, depths)

    def content(self, record: Record) -> bytes:
        """The image file; BadImageFile if it is not there or cannot be opened."""
        try:
            return (self.folder / record.image).read_bytes()
        except FileNotFoundError as err:
            raise BadImageFile(f"image {record.image} is not in {self.folder}; correct --images") from err
        except (OSError, ValueError) as err:
            reason = err.strerror if isinstance(err, OSError) else err
            raise BadImageFile(f"{self.folder / record.image} cannot be read ({reason}); replace the file") from err


def named(reasons: Sequence[str]) -> str:
    """The first few reasons in one line, and how many more there are."""
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return "; ".join(reasons[:NAMED]) + more
