"""The images of annotated records in a folder: each decoded and compared with its record before anything is learned."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import BadImageFile, BadRecord
from model.image_files import Depths, decode_checked
from model.records import Record

logger = logging.getLogger(__name__)

NAMED = 5
"""Reasons that an error or a warning names."""


def fully_read(records: Sequence[Record]) -> list[Record]:
    """The records without those of which something could not be read, which one warning names.

    Raises BadRecord if none is left of several.
    """
    whole = [record for record in records if not record.unread]
    if len(whole) == len(records):
        return whole
    reasons = _named([f"{record.image}: {record.unread[0]}" for record in records if record.unread])
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
            raise BadRecord(f"{len(problems)} of {total} images cannot be used: {_named(problems)}")
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


def _named(reasons: Sequence[str]) -> str:
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return "; ".join(reasons[:NAMED]) + more
