"""Held-out images that are near copies of training images: left out of the round's evaluation, where they flatter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from backend.project.workplace import Workplace
from backend.rounds.folder import Round
from backend.rounds.image_features import FeatureMaker, image_name
from backend.rounds.near_copies import NearCopies, compare_now, read_near_copies
from model.errors import BadCheckpoint
from model.files import write_json
from model.stored_json import read_as
from sampling.near_copies import Shown

logger = logging.getLogger(__name__)

FILE = "left_out_of_evaluation.json"

LEFT_OUT = "left_out"
"""Name in a version's metrics: of its images that were not measured on, each with the training image it is like."""

NAMED = 3
"""Such images that status names."""


def note_left_out(place: Workplace, current: Round, open_cache: Callable[[], FeatureMaker]) -> None:
    """Decide which validation and test images of a round are near copies of its training images; kept in its folder."""
    path = current.path / FILE
    if path.exists() or not place.config.moves_near_copies:
        return
    splits = {row.task: row.split for row in current.annotated()}
    twins = _compared(place, current, open_cache).twins
    learned = Shown(twins, (task for task, split in splits.items() if split == "train"))
    found = {task: learned.copied_by(task) for task, split in splits.items() if split != "train"}
    write_json(path, {str(task): other for task, other in found.items() if other is not None})


def left_out_of_evaluation(current: Round) -> dict[int, int]:
    """The validation and test images of a round that do not count, each with a training image that it copies."""
    path = current.path / FILE
    return read_as(path, dict[int, int]) if path.exists() else {}


def _compared(place: Workplace, current: Round, open_cache: Callable[[], FeatureMaker]) -> NearCopies:
    """What is known of annotated tasks, and what is seen now of those that were not compared yet."""
    known, rows = read_near_copies(place.folder), {row.task: row for row in current.annotated()}
    are_known = all(known.images.get(row.task) == image_name(place, row.uri) for row in rows.values())
    if are_known or all(row.split == "train" for row in rows.values()):
        return known
    tasks = [task for task in place.client.annotated_tasks(place.folder.project_id) if task.id in rows]
    try:
        return compare_now(place, tasks, open_cache)
    except BadCheckpoint as err:
        logger.warning("project %s: near copies are not looked for: %s", place.folder.uid, err)
        return known


def left_out_in_words(left_out: Mapping[str, int], kind: str = "validation") -> str:
    """What status says of a version's images of a kind that did not count, {task: training task}; nothing without."""
    if not left_out:
        return ""
    named = [f"task {task} of task {other}" for task, other in left_out.items()][:NAMED]
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    images = (
        f"1 {kind} image that is a near copy"
        if len(left_out) == 1
        else (f"{len(left_out)} {kind} images that are near copies")
    )
    return f"; evaluated without {images} of training images: {', '.join(named)}{more}"
