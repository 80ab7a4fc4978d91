"""What came of the pieces of a cut: the scores of each in files of their own, whole or not there at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backend.rounds.cut import NAME
from backend.rounds.scored import Scored
from backend.rounds.scores import decoded_score, encoded_score
from backend.rounds.seen_objects import encoded_row, read_seen
from model.files import write_atomically

logger = logging.getLogger(__name__)


class Pieces:
    """The folder of a cut; a piece is a number, its place in the cut.

    Helpers write what they scored; the round's process reads it, and notes which pieces are done, by whomever.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def are_wanted(self) -> bool:
        """Whether the round is not done with all of them."""
        return (self.folder / NAME).exists()

    def key(self, piece: int) -> str:
        """What a piece is known by among all that there are at any time."""
        return f"{self.folder.name}:{piece}"

    def write(self, piece: int, found: Sequence[tuple[int, Scored]]) -> None:
        """Keep the scores of a piece, by task; FileNotFoundError where the cut is gone. What is seen comes first."""
        if seen := b"".join(encoded_row(task, one.seen) for task, one in found if one.seen):
            write_atomically(self._seen(piece), seen)
        write_atomically(self._scores(piece), b"".join(encoded_score(task, one) for task, one in found))

    def has_scores(self, piece: int) -> bool:
        """Whether somebody has written all that he could score of a piece, and nobody has taken it over."""
        return self._scores(piece).exists()

    def written(self) -> list[int]:
        """The pieces that have scores."""
        return sorted(int(path.stem) for path in self.folder.glob("*.scores"))

    def read(self, piece: int) -> Iterator[tuple[int, Scored]]:
        """The scores of a piece, by task; a line that is broken is left out with a warning."""
        seen = read_seen(self._seen(piece))
        for line in self._scores(piece).read_bytes().splitlines():
            try:
                task, scored = decoded_score(line)
            except ValueError as err:
                logger.warning("piece %d of a ranking has a torn line, whose task is scored again: %s", piece, err)
                continue
            yield task, replace(scored, seen=seen.get(task))

    def note_done(self, piece: int) -> None:
        """Note that the round has all scores of a piece, which nobody needs to write any more."""
        with suppress(FileNotFoundError):  # the cut is gone, as another worker has taken the round over
            (self.folder / f"{piece}.done").touch()
        for path in (self._scores(piece), self._seen(piece)):
            path.unlink(missing_ok=True)

    def is_free(self, piece: int) -> bool:
        """Whether a piece is still to be scored, as far as the disk tells."""
        return not self.has_scores(piece) and not (self.folder / f"{piece}.done").exists()

    def _scores(self, piece: int) -> Path:
        return self.folder / f"{piece}.scores"

    def _seen(self, piece: int) -> Path:
        return self.folder / f"{piece}.seen"
