"""The first step of a round: what is annotated now, and which of it can be learned."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from backend.errors import BadImage, NothingToLearn
from backend.label_studio.annotations import doubts_about, read_outlines
from backend.label_studio.client import Task
from backend.label_studio.replaced import Replacement
from backend.project.workplace import Workplace
from backend.rounds.folder import (
    STATES,
    AnnotatedImage,
    Report,
    Round,
    all_rounds,
    ended_rounds,
    last_concluded,
    left_out_before,
)
from backend.rounds.snapshots import (
    SPLITS,
    Entry,
    LeftOut,
    Snapshot,
    assess_need,
    group_of,
    take_snapshot,
    write_snapshot,
)
from model.image_files import DARK
from model.record_images import named

logger = logging.getLogger(__name__)

NAMED = 5
"""Unknown splits, or tasks, that a note names."""

Chosen = Mapping[int, tuple[Task, dict[str, Any]]]
"""Annotated tasks by id, each with the annotation that counts."""


@dataclass
class _Found:
    """What comes of a look at all annotated images.

    rows        what can be learned
    unreadable  one line for each image that cannot be read
    left_out    tasks of whose annotation a part cannot be read, or whose image was replaced since
    doubts      one line for each thing that is used otherwise than it may be meant
    brightest   value of all pixels, 0..255
    """

    rows: list[AnnotatedImage] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    brightest: int = 0

    @property
    def reasons(self) -> list[str]:
        """Why images are not used."""
        return [*self.unreadable, *(reason for one in self.left_out for reason in one.reasons)]


def read(place: Workplace, current: Round, report: Report) -> None:
    """Write down what is annotated, and read every image once, so that training meets no broken one.

    An image of which not all regions can be read, or that was replaced since they were drawn, is left out.
    NothingToLearn if none is left to train on, or too few for the round to be due.
    """
    snapshot, chosen = read_snapshot_of(place, afresh=True)
    found = _Found(left_out=list(snapshot.left_out))
    for index, entry in enumerate(snapshot.entries, start=1):
        report("read", index / len(snapshot.entries))
        _look_at(place, entry, chosen, found)
    splits = (*_unknown_splits(chosen), *_learned_before(place, snapshot))
    problems = [*_label_changes(place), *splits, *found.unreadable, *found.doubts, *_darkness(found)]
    for line in (*problems, *(reason for one in found.left_out for reason in one.reasons)):
        logger.warning("project %s: %s", place.folder.uid, line)
    dropped = {one.task for one in found.left_out}
    entries = tuple(entry for entry in snapshot.entries if entry.task not in dropped)
    kept = replace(snapshot, entries=entries, problems=tuple(problems), left_out=tuple(found.left_out))
    _require_something(found)
    if len(entries) < len(snapshot.entries):
        _require_still_due(place, current, kept)
    current.write_annotated(found.rows, place.label_config)
    write_snapshot(current.path / "snapshot.json", kept)


def read_snapshot_of(place: Workplace, *, afresh: bool = False) -> tuple[Snapshot, Chosen]:
    """What is annotated in Label Studio now, see `take_snapshot`; with the mark by which later changes are counted.

    Unless `afresh`, what the newest round had to leave out is left out without another look.
    """
    project_id = place.folder.project_id
    newest = place.client.newest_change(project_id)
    known = () if afresh else left_out_before(place.folder, place.label_config)
    tasks, replacement_of = place.client.annotated_tasks(project_id), partial(_replacement_of, place)
    snapshot, chosen = take_snapshot(tasks, place.folder.uid, place.labels, known, replacement_of)
    return replace(snapshot, newest=newest), chosen


def _replacement_of(place: Workplace, task: Task) -> Replacement | None:
    return place.images.replaced(place.labels.image_value.of(task.data))


def _look_at(place: Workplace, entry: Entry, chosen: Chosen, found: _Found) -> None:
    """Read one annotated image, and put it where it belongs."""
    task, annotation = chosen[entry.task]
    uri = place.labels.image_value.of(task.data)
    try:
        pixels = place.images.load(uri, task.id)
    except BadImage as err:
        found.unreadable.append(f"annotation {entry.annotation} is not trained on: {err}")
        return
    replacement = place.images.replaced(uri)  # loading it may have been the moment of noticing
    if replacement is not None and (why := replacement.reasons_against(annotation)):
        found.left_out.append(LeftOut(task.id, entry.annotation, "", why))
        return
    size_hw, found.brightest = pixels.shape[:2], max(found.brightest, int(pixels.max(initial=0)))
    _, unread = read_outlines(annotation, place.labels, size_hw)
    if unread:
        found.left_out.append(LeftOut(task.id, entry.annotation, entry.digest, unread))
        return
    found.doubts += [f"task {task.id}: {line}" for line in doubts_about(annotation, place.labels, size_hw)]
    facts = (task.id, str(uri), size_hw, entry.split, entry.annotation, annotation["result"])
    found.rows.append(AnnotatedImage(*facts, group_of(task.data, task.id)))


def _unknown_splits(chosen: Chosen) -> list[str]:
    """One line if tasks name a split that there is not, as other tools' `valid`: it decides nothing."""
    named = {task.id: task.data.get("split") for task, _ in chosen.values()}
    unknown = {task: split for task, split in named.items() if split not in (None, "", *SPLITS)}
    if not unknown:
        return []
    words = " or ".join(sorted({repr(split) for split in unknown.values()})[:NAMED])
    return [
        f"{len(unknown)} annotated tasks, such as {min(unknown)}, have the split {words}, wanted one of "
        f"{', '.join(SPLITS)}; they are split by chance until that is corrected in their data"
    ]


def _learned_before(place: Workplace, now: Snapshot) -> list[str]:
    """One line if versions that others go on from have learned from images that are test images now."""
    tests = {entry.task for entry in now.entries if entry.split == "test"}
    if not tests or not place.config.warm_start:
        return []
    before = (one.snapshot() or Snapshot(()) for one in all_rounds(place.folder) if one.state.state == STATES[-1])
    learned = sorted(tests & {entry.task for one in before for entry in one.entries if entry.split == "train"})
    if not learned:
        return []
    more = f" and {len(learned) - NAMED} more" if len(learned) > NAMED else ""
    return [
        f"learned from before they became test images: task {', '.join(map(str, learned[:NAMED]))}{more}; that "
        "flatters what is measured on test images as long as versions go on from those that did"
    ]


def _darkness(found: _Found) -> list[str]:
    """One line if all images are as dark as those of 16 bits are of which 12 are used."""
    if not found.rows or found.brightest >= DARK:
        return []
    return [
        f"all {len(found.rows)} annotated images are nearly black (no pixel above {found.brightest} of 255); if they "
        "have 16 bits of which their camera uses 12, multiply the pixels by 16 and save them again"
    ]


def _require_something(found: _Found) -> None:
    """NothingToLearn that names the images and why, if no image is left to train on."""
    if any(row.split == "train" for row in found.rows):
        return
    if not found.reasons:
        raise NothingToLearn("nothing outside of the validation split is annotated any more; the round waits for it")
    raise NothingToLearn(
        f"no annotated image outside of the validation split can be used: {named(found.reasons)}; the round goes on "
        "by itself once they can be read"
    )


def _require_still_due(place: Workplace, current: Round, kept: Snapshot) -> None:
    """NothingToLearn if what the images showed leaves too few annotations for this round."""
    concluded = last_concluded(place.folder)
    need = assess_need(
        kept,
        concluded.snapshot() if concluded else None,
        initial_datasize=place.config.initial_datasize,
        pool_size=place.config.pool_size_after(ended_rounds(place.folder)),
        is_forced=current.state.is_forced,
    )
    if not need.is_due:
        reasons = [reason for one in kept.left_out for reason in one.reasons]
        raise NothingToLearn(f"{need.reason}: {named(reasons)}; the round goes on once there are enough")


def _label_changes(place: Workplace) -> list[str]:
    """One line if the labelling config's labels are not those that the served version knows."""
    served = place.folder.registry.current()
    if served is None:
        return []
    known, now = place.folder.registry.get(served).classes, place.labels.classes
    added = [label for label in now if label not in known]
    gone = [label for label in known if label not in now]
    if not added and not gone:
        return []
    return [
        f"the labelling config has changed since {served}: labels added: {', '.join(added) or 'none'}; gone: "
        f"{', '.join(gone) or 'none'}; what {served} learned of a label that was renamed starts anew under its new name"
    ]
