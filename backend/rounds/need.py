"""Whether a project needs a round, by what Label Studio holds now and what the last round knew."""

from __future__ import annotations

from backend.label_studio.client import Project
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
    concluded = last_concluded(folder)
    before = concluded.snapshot() if concluded else None
    if before is None and not is_forced and project.counters[1] < config.initial_datasize:
        have, wanted = project.counters[1], config.initial_datasize
        return Need(False, have, wanted - have, f"{have} of {wanted} annotated tasks")
    ended = ended_rounds(folder)
    if config.loops is not None and not is_forced and ended > config.loops:
        reason = (
            f"`loops: {config.loops}` of the settings are done; Start Training begins one more round, "
            "a larger number lets them go on"
        )
        return Need(False, 0, None, reason)
    pool_size = config.pool_size_after(ended)
    if before is not None and before.newest and not is_forced and not in_full:
        touched = place.client.count_annotated(folder.project_id, before.newest)
        fewer = len(before.entries) + len(before.left_out) - place.client.count_annotated(folder.project_id)
        at_most = touched + max(0, fewer + touched)  # each that was touched may be new, and hide one that is gone
        if at_most < pool_size:
            changed = touched + max(0, fewer)
            reason = f"{changed} of {pool_size} tasks new or changed"
            return Need(False, changed, pool_size - changed, reason)
    now = now or read_snapshot_of(place)[0]
    known = all_rounds(folder)
    if known and not known[-1].is_concluded and not is_forced:
        failed = known[-1].snapshot()
        if failed is not None and failed.digest == now.digest:
            verb = "is under way with" if known[-1].is_unfinished else "failed on"
            return Need(False, 0, 1, f"round {known[-1].state.number} {verb} the same annotations")
    return assess_need(now, before, initial_datasize=config.initial_datasize, pool_size=pool_size, is_forced=is_forced)
