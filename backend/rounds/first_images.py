"""The first images: ordered by coverage before there is a version, and served by the queue as `maskal-r0`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backend.errors import NotFound
from backend.label_studio.client import TITLE, Project, Task
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace
from backend.rounds import task_queue
from backend.rounds.copies_last import copies_counted, copy_in_words
from backend.rounds.first_queue import (
    FIRST_VERSION,
    FirstTask,
    has_first_queue,
    note_obstacle,
    read_first_queue,
    read_obstacle,
    write_first_queue,
)
from backend.rounds.folder import Report
from backend.rounds.image_features import FeatureMaker, Known, add_features, missing_from, read_features
from backend.rounds.near_copies import read_near_copies
from backend.rounds.snapshots import split_of
from model.errors import BadCheckpoint
from model.rankings import RankedTask
from model.registry import NAME
from sampling.first_images import Pick, cover
from sampling.near_copies import Twins, Waiting, copies_among
from sampling.ranking import Candidate, RankingConfig, rank

logger = logging.getLogger(__name__)

LOOKING_S = 30.0
"""What one look at a project computes at most, so that other projects get their turn."""

CHOSEN = 200
"""Images that are chosen one by one for the first order, at least; the others follow by what each would bring alone."""

FRONT = 40
"""Places at the front that are kept in order while annotations come in."""

LISTED_AT_ONCE = 500
STRIDE = 2
OpenCache = Callable[[], FeatureMaker]
AGAIN = "it is tried again with the next annotation, or within an hour"
HELD_OUT, TEST = "a validation image, by chance", "a test image, by chance"
UNSEEN = "by chance, as it could not be looked at"


@dataclass(frozen=True)
class Wish:
    """Where coverage wants an open training task, 0 first, and why; `copy_of`: last, as that task's near copy."""

    place: int
    reason: str
    copy_of: int | None = None


def order_first_images(
    place: Workplace, open_cache: OpenCache, report: Report, *, may_begin: bool, budget_s: float = LOOKING_S
) -> bool:
    """Order what is open by coverage, or mend that order; whether there is more to do.

    Nothing is ordered once there is a version, or where the project's settings leave the first images to chance, or
    for the first time unless it `may_begin`. Images are looked at for about `budget_s` seconds; `open_cache` is called
    only where there are any to look at. Where it raises BadCheckpoint, that is noted for `maskal status`, and chance
    chooses among the images that nobody could look at.
    """
    folder = place.folder
    if folder.registry.current() is not None or not place.config.chooses_first_images:
        return False
    if not may_begin and not has_first_queue(folder):
        return False
    tasks = list(place.client.tasks(folder.project_id))
    known = read_features(place)
    missing = missing_from(known, place, tasks)
    cache, obstacle = _opened(open_cache) if missing else (None, "")
    note_obstacle(folder, obstacle)
    if cache is not None:
        known = add_features(place, cache, known, missing, time.monotonic() + budget_s)
        missing = missing_from(known, place, missing)
        report("look at the first images", 1 - len(missing) / len(tasks), images=len(tasks))
    if missing and not has_first_queue(folder):
        return not obstacle
    unseen = {task.id for task in missing} if obstacle else set()
    is_more = _arrange(place, [task for task in tasks if task.id in known.features or task.id in unseen], known)
    return is_more or bool(missing and not obstacle)


def _opened(open_cache: OpenCache) -> tuple[FeatureMaker | None, str]:
    """What makes features; or None, and why there is nothing that does."""
    try:
        return open_cache(), ""
    except BadCheckpoint as err:
        return None, str(err)


def publish_first_images(place: Workplace, project: Project) -> None:
    """Let Label Studio's queue follow the first order while there is no version, and no longer.

    A version that is served in the same moment wins: who sees it last publishes it again.
    """
    registry, client = place.folder.registry, place.client
    if registry.current() is not None:
        return
    if not place.config.chooses_first_images:
        if project.model_version == FIRST_VERSION:
            client.update_project(project.id, model_version=TITLE)
        return
    if project.model_version == FIRST_VERSION or not has_first_queue(place.folder):
        return
    if FIRST_VERSION in client.model_versions(project.id):
        client.update_project(project.id, model_version=FIRST_VERSION)
        logger.info("project %d: the queue follows the chosen first images", project.id)
        task_queue.publish(client, registry, client.project(project.id))


def _arrange(place: Workplace, tasks: Sequence[Task], known: Known) -> bool:
    """Bring the queue into order; whether there is more to do.

    What is new is pushed, and what stands elsewhere than it should gets another score.
    """
    before = read_first_queue(place.folder)
    after = _order_after(before, place, tasks, known)
    lacking, is_more = _lacking_a_place(place)
    to_push = {task for task in after if task not in before or task in lacking}
    _push(place, [after[task] for task in sorted(to_push)])
    for task, row in after.items():
        if task not in to_push and row.score != before[task].score:
            _rescore(place, row)
    if {**before, **after} != before:
        write_first_queue(place.folder, {**before, **after}.values())
    return is_more and bool(before)


def _order_after(
    before: Mapping[int, FirstTask], place: Workplace, tasks: Sequence[Task], known: Known
) -> dict[int, FirstTask]:
    """Where the open tasks are to stand: in the order before, mended, or in a first one if none of them has a place."""
    splits = {task.id: split_of(task.data, task.id, place.folder.uid) for task in tasks}
    open_tasks = {task.id for task in tasks if not task.is_labeled}
    waiting = {task: row for task, row in before.items() if task in open_tasks}
    chosen = FRONT if waiting else max(CHOSEN, STRIDE * place.config.initial_datasize)
    twins = read_near_copies(place.folder).twins if place.config.moves_near_copies else {}
    wishes = _copies_after(_wishes(tasks, splits, known, chosen), twins, {t.id for t in tasks if t.is_labeled})
    if waiting:
        return mended(waiting, wishes, splits, open_tasks)
    return _ordered(wishes, splits, open_tasks, place.folder.project_id)


def _lacking_a_place(place: Workplace) -> tuple[set[int], bool]:
    """Open tasks that Label Studio holds no place of, as many as are listed at once; whether there are more."""
    unreadable = sum(failure.is_waiting for failure in Unreadable(place.folder.path).failures().values())
    limit = LISTED_AT_ONCE + unreadable  # which have no place, and lack a prediction for good
    lacking, total = place.client.open_tasks_without(place.folder.project_id, FIRST_VERSION, limit)
    return {task.id for task in lacking}, total > limit


def _wishes(tasks: Sequence[Task], splits: Mapping[int, str], known: Known, chosen: int) -> dict[int, Wish]:
    """Where coverage wants the open training tasks; validation images cover nothing: nothing is learned from them."""
    train = [task for task in tasks if splits[task.id] == "train" and task.id in known.features]
    if not train:
        return {}
    features = np.stack([known.features[task.id] for task in train]).astype(np.float32)
    picks = cover(features, np.array([task.is_labeled for task in train]), chosen)
    return {train[p.index].id: Wish(i, _in_words(p, len(train))) for i, p in enumerate(picks)}


def _copies_after(wishes: Mapping[int, Wish], twins: Twins, annotated: Collection[int]) -> dict[int, Wish]:
    """The wishes with near copies of what is annotated, or is wished before, at the end."""
    order = sorted(wishes, key=lambda task: wishes[task].place)
    copies = copies_among([Waiting(task, 0.0) for task in order], twins, dict.fromkeys(annotated, True))
    order.sort(key=lambda task: task in copies)
    return {
        task: Wish(at, copy_in_words(copies[task]), copies[task]) if task in copies else replace(wishes[task], place=at)
        for at, task in enumerate(order)
    }


def _in_words(pick: Pick, images: int) -> str:
    if pick.stands_for is None:
        return "much like images before it"
    count = max(1, round(pick.stands_for * images))
    return f"nearer to {count} of {images} images than any that is annotated or comes before it"


def _ordered(
    wishes: Mapping[int, Wish], splits: Mapping[int, str], open_tasks: set[int], seed: int
) -> dict[int, FirstTask]:
    """The first order of all open tasks, those that are held out at random among the others."""
    candidates = [
        Candidate(task, (wishes[task].place + 1) / (len(wishes) + 1) if task in wishes else 0.5, task not in wishes)
        for task in sorted(open_tasks)
    ]
    places = rank(candidates, RankingConfig("uncertainty"), seed)
    return {p.key: _row(p.key, p.score, splits, wishes) for p in places}


def mended(
    before: Mapping[int, FirstTask], wishes: Mapping[int, Wish], splits: Mapping[int, str], open_tasks: set[int]
) -> dict[int, FirstTask]:
    """The order of the open tasks with new ones at their place, and the front as it is wished.

    A task that comes to the front changes its score with the one that stood there, so that few change.
    """
    rows = dict(before)
    slots = sorted(row.score for row in before.values())
    rng = np.random.default_rng(len(splits))
    for task in sorted(open_tasks - before.keys()):
        share = wishes[task].place / len(wishes) if task in wishes else rng.random()
        rows[task] = _row(task, _between(slots, share), splits, wishes)
    queue = sorted((row.score, task) for task, row in rows.items() if task in wishes)
    scores, order = [score for score, _ in queue], [task for _, task in queue]
    for at, task in enumerate(sorted(order, key=lambda t: wishes[t].place)[:FRONT]):
        other = order.index(task)
        order[at], order[other] = order[other], order[at]
    for score, task in zip(scores, order, strict=True):
        rows[task] = _row(task, score, splits, wishes)
    return rows


def _row(task: int, score: float, splits: Mapping[int, str], wishes: Mapping[int, Wish]) -> FirstTask:
    wish = wishes.get(task, Wish(0, {"val": HELD_OUT, "test": TEST}.get(splits[task], UNSEEN)))
    return FirstTask(task, score, splits[task], wish.reason, wish.copy_of)


def _between(slots: Sequence[float], share: float) -> float:
    """A score with about that share of the slots before it."""
    return float(np.interp(share * len(slots), np.arange(len(slots) + 2) - 0.5, [0.0, *slots, 1.0]))


def _push(place: Workplace, rows: Sequence[FirstTask]) -> None:
    if rows:
        regions = _pre_labels(place)
        ranked = [
            RankedTask(
                row.task,
                None,
                at,
                row.score,
                row.split,
                task_queue.shown_regions(regions.get(row.task, []), row.split, place.config),
            )
            for at, row in enumerate(rows)
        ]
        place.pusher(FIRST_VERSION).push(ranked)


def _pre_labels(place: Workplace) -> dict[int, list[dict[str, Any]]]:
    """Regions that somebody else's model drew before there is a version: annotators would no longer see them."""
    found: dict[int, list[dict[str, Any]]] = {}
    for version in place.client.model_versions(place.folder.project_id):
        if version != FIRST_VERSION and not NAME.fullmatch(version):
            for task in place.client.predicted_tasks(place.folder.project_id, version):
                found[task.id] = task.predictions[-1]["result"]
    return found


def _rescore(place: Workplace, row: FirstTask) -> None:
    for prediction in place.client.predictions(row.task):
        if prediction["model_version"] == FIRST_VERSION:
            with suppress(NotFound):  # gone together with its task
                place.client.rescore(prediction["id"], row.score)


def first_images_in_words(place: Workplace, project: Project, listed: int = 10) -> Iterator[str]:
    """What status says of the first images while there is no version: how they are chosen, and the next ones."""
    if place.folder.registry.current() is not None:
        return
    if not place.config.chooses_first_images:
        yield "the first images come in random order"
        return
    queue = read_first_queue(place.folder)
    tasks, obstacle = list(place.client.tasks(project.id)), read_obstacle(place.folder)
    if not queue and obstacle:
        yield f"the first images come in random order, as they cannot be looked at: {obstacle}; {AGAIN}"
        return
    if not queue and not tasks:
        yield "the project has no task yet; import images"
        return
    if not queue:
        seen = len(tasks) - len(missing_from(read_features(place), place, tasks))
        yield (
            f"the first images are being chosen, {seen} of {len(tasks)} were looked at; until then they come in random "
            "order"
        )
        return
    left = [queue[task.id] for task in tasks if not task.is_labeled and task.id in queue]
    shown = sorted(left, key=lambda row: (row.score, row.task))[:listed]
    following = {0: "", 1: "; the next one is"}.get(len(shown), f"; the next {len(shown)} are")
    yield f"the first images are chosen: each the one that stands for the most others{following}"
    yield from (f"  task {row.task}: {row.reason}" for row in shown)
    yield from copies_counted(project.id, sum(row.copy_of is not None for row in left), len(left))
    if obstacle:
        yield f"new images come at random places, as they cannot be looked at: {obstacle}; {AGAIN}"
