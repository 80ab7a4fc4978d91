"""Whether a project needs a round, by what Label Studio holds now and what the last round knew."""

from __future__ import annotations

from backend.label_studio.client import Project
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace
from backend.rounds.folder import all_rounds, ended_rounds, last_concluded
from backend.rounds.reading import read_snapshot_of
from backend.rounds.snapshots import Need, Snapshot, assess_need


def need_of(
    place: Workplace, project: Project, *, in_full: bool, is_forced: bool = False, now: Snapshot | None = None
) -> Need:
    """Whether a round is due. Unless `in_full`, the annotations are only read if enough of them may have changed.

    `now` is what is annotated, where that is known already.
    """
    folder, config = place.folder, place.config
    concluded, ended = last_concluded(folder), ended_rounds(folder)
    before = concluded.snapshot() if concluded else None
    pool_size = config.pool_size_after(ended)
    if not is_forced and (waits := _by_settings(config, project, before, ended)):
        return waits
    if not is_forced and not in_full and before and (waits := _by_counts(place, before, pool_size)):
        return waits
    now = now or read_snapshot_of(place)[0]
    if not is_forced and (waits := _tried_already(folder, now)):
        return waits
    return assess_need(now, before, initial_datasize=config.initial_datasize, pool_size=pool_size, is_forced=is_forced)


def _by_settings(config: ProjectConfig, project: Project, before: Snapshot | None, ended: int) -> Need | None:
    """What the first round lacks, or that there were as many rounds as the settings want; else None."""
    have, wanted = project.counters[1], config.initial_datasize
    if before is None and have < wanted:
        return Need(False, have, wanted - have, f"{have} of {wanted} annotated tasks")
    if config.loops is None or ended <= config.loops:
        return None
    reason = (
        f"`loops: {config.loops}` of the settings are done; Start Training begins one more round, "
        "a larger number lets them go on"
    )
    return Need(False, 0, None, reason)


def _by_counts(place: Workplace, before: Snapshot, pool_size: int) -> Need | None:
    """What is missing where fewer tasks than wanted can have changed; None where the annotations have to be read."""
    if not before.newest:
        return None
    touched = place.client.count_annotated(place.folder.project_id, before.newest)
    fewer = len(before.entries) + len(before.left_out) - place.client.count_annotated(place.folder.project_id)
    at_most = touched + max(0, fewer + touched)  # each that was touched may be new, and hide one that is gone
    if at_most >= pool_size:
        return None
    changed = touched + max(0, fewer)
    return Need(False, changed, pool_size - changed, f"{changed} of {pool_size} tasks new or changed")


def _tried_already(folder: ProjectFolder, now: Snapshot) -> Need | None:
    """That the last round is at these very annotations, or failed on them; None if it did not."""
    last = next(reversed(all_rounds(folder)), None)
    if last is None or last.is_concluded:
        return None
    tried = last.snapshot()
    if tried is None or tried.digest != now.digest:
        return None
    verb = "is under way with" if last.is_unfinished else "failed on"
    return Need(False, 0, 1, f"round {last.state.number} {verb} the same annotations")
