"""Versions that nothing needs any more, so that disks do not fill."""

from __future__ import annotations

import logging

from backend.project.workplace import Workplace
from backend.rounds.folder import ANNOTATED, unfinished
from model.registry import version_number

logger = logging.getLogger(__name__)


def remove_old_versions(place: Workplace) -> tuple[str, ...]:
    """Delete the versions of a project beyond the newest `keep_versions`; their names.

    Kept are the served one and its parent, the best one, and any of which Label Studio holds a prediction. With a
    version goes what it learned from; its round's snapshot, which says what that was, stays. Nothing is deleted during
    a round, which may look at any of them.
    """
    registry, newest = place.folder.registry, place.config.keep_versions
    names, served = registry.names(), registry.current()
    if len(names) <= newest or served is None or unfinished(place.folder) is not None:
        return ()
    best = registry.best()
    used = {served, registry.get(served).parent, best.name if best else None, *names[-newest:]}
    old = [name for name in names if name not in used]
    held = place.client.model_versions(place.folder.project_id) if old else {}
    removed = tuple(name for name in old if name not in held)
    for name in removed:
        (place.folder.rounds / str(version_number(name)) / ANNOTATED).unlink(missing_ok=True)
        registry.remove(name)  # last: what a kill leaves is found by the version that is still there
        logger.info("project %s: %s was deleted, keep_versions is %d", place.folder.uid, name, newest)
    return removed
