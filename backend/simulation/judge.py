"""What every judge of a simulation offers, whatever it is that learns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sampling.coverage import Known
from sampling.ranking import Candidate


@dataclass(frozen=True)
class Verdict:
    """How well the test images are done, each 0..1, None where the judge does not look at it.

    mask_ap, mask_ap50  of a network that finds and outlines objects
    class_accuracy      of a classifier that is shown the objects: the mean of the classes' shares of right answers
    """

    mask_ap: float | None = None
    mask_ap50: float | None = None
    class_accuracy: float | None = None


class Judge(Protocol):
    """A learner of `sampling.simulate` that can be put back to where a stopped run was."""

    verdict: Verdict

    def learn(self, images: Sequence[int], loop: int) -> float:
        """Learn from these images; returns the value of the verdict that curves are drawn of."""
        ...

    def candidates(self, images: Sequence[int]) -> Iterable[Candidate]:
        """The images as it sees them after its last lesson."""
        ...

    def known(self, images: Sequence[int]) -> Known | None:
        """The objects of the images that it learned from, for strategies that look at objects."""
        ...

    def recall(self, images: Sequence[int], loop: int) -> None:
        """Be as after a loop that was played before, with these images."""
        ...

    def forget(self, loop: int) -> None:
        """Keep nothing more of a loop that no run goes on from."""
        ...
