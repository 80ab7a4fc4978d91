"""The place of near copies in a project's queues: last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from backend.rounds.folder import last_concluded
from backend.rounds.near_copies import read_near_copies
from backend.rounds.snapshots import Snapshot
from model.rankings import RankedTask
from sampling.near_copies import Shown, Waiting, copies_last

ENOUGH, SUSPICIOUS = 20, 0.5
"""From so many open tasks on, and beyond this share of near copies among them, a fixed camera may be the reason."""


def copy_in_words(task: int) -> str:
    """Why a near copy of a task stands at the end."""
    return f"near copy of task {task}"


def copies_counted(project_id: int, count: int, of: int) -> Iterator[str]:
    """What status says of so many near copies among so many open tasks, if there are any."""
    if not count:
        return
    told = "1 open image comes last as a near copy" if count == 1 else f"{count} open images come last as near copies"
    if of >= ENOUGH and count > SUSPICIOUS * of:
        told += (
            "; if they come from a fixed camera and differ in small objects, set `near_copies: keep` in the project's "
            f"settings (`maskal config --project {project_id} --set near_copies=keep`)"
        )
    yield told


def near_copies_in_words(folder: ProjectFolder, annotated: Collection[int] | None) -> Iterator[str]:
    """What status says of the near copies in the served version's queue, and of those that are not looked for.

    They are not counted where nobody has looked which tasks are annotated.
    """
    if not folder.config().moves_near_copies:
        return
    known, served = read_near_copies(folder), folder.registry.current()
    if known.obstacle:
        yield f"near copies are not looked for: {known.obstacle}"
    if served is None or annotated is None:
        return
    rows = folder.registry.read_ranking(served, with_regions=False)
    are_copies = [row.copy_of is not None for row in rows if row.task not in annotated]
    yield from copies_counted(folder.project_id, sum(are_copies), len(are_copies))


def with_copies_last(
    place: Workplace, rows: Sequence[RankedTask], annotated: Mapping[int, str]
) -> tuple[RankedTask, ...]:
    """A ranking in its order, but for near copies, which come last; `annotated` are the splits of annotated tasks."""
    if not place.config.moves_near_copies:
        return tuple(rows)
    queue = [Waiting(row.task, row.score, row.split != "train") for row in rows]
    is_training = {task: split == "train" for task, split in annotated.items()}
    placed = copies_last(queue, read_near_copies(place.folder).twins, is_training)
    by_task = {row.task: row for row in rows}
    return tuple(
        replace(
            by_task[one.key],
            place=at,
            score=one.score,
            copy_of=one.copy_of,
            is_control=by_task[one.key].is_control and one.copy_of is None,
        )
        for at, one in enumerate(placed)
    )


class LateCopies:
    """Of what tasks that came after their version's ranking are near copies: what is annotated, in that queue, or late.

    Reads what is known once; `late` are the tasks that come now.
    """

    def __init__(self, place: Workplace, ranking: Sequence[RankedTask], late: Collection[int]) -> None:
        twins = read_near_copies(place.folder).twins if place.config.moves_near_copies else {}
        concluded = last_concluded(place.folder)
        entries = (concluded.snapshot() or Snapshot(())).entries if concluded and twins else ()
        self._learned = Shown(twins, (entry.task for entry in entries if entry.split == "train"))
        before = {entry.task for entry in entries} | {row.task for row in ranking if row.copy_of is None}
        self._before = Shown(twins, before.difference(late))

    def take(self, task: int, split: str) -> int | None:
        """What the next late task is a near copy of; None of nothing, and then those after it may be copies of it."""
        copied = (self._before if split == "train" else self._learned).copied_by(task)
        if copied is None:
            self._before.add(task)
        return copied
