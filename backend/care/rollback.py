"""`maskal rollback`: serve an earlier version again, in the registry and in Label Studio's queue together."""

from __future__ import annotations

from redis import Redis

from backend.counted import counted
from backend.errors import BadSetting
from backend.project.folder import ProjectFolder
from backend.project.workplace import Workplace, open_workplace
from backend.queue.connection import require_writable
from backend.queue.jobs import EXAMINE, RUN_ROUND, hint
from backend.queue.locks import held
from backend.rounds import task_queue
from backend.rounds.folder import STATES, Round, unfinished
from backend.rounds.history import note_rollback
from backend.settings import Settings
from model.registry import Version, version_number

WAIT_S = 30.0
"""A worker that has just finished a round looks whether another one is due before it lets go; cleaning takes time."""


def roll_back(settings: Settings, redis: Redis, folder: ProjectFolder, to: str | None) -> str:
    """Serve the version `to`, or the one before the served version; says what was done.

    The predictions come from the ranking that the version made; tasks that are new since then are scored by the
    worker. Nothing is trained: the next round waits for new annotations and starts from this version. Raises BadSetting
    where there is no such version to go back to, or while a round is under way that would publish its own, and
    QueueUnavailable where Redis takes no data.
    """
    require_writable(redis)
    wait_s = 0 if unfinished(folder) else WAIT_S
    with (
        held(redis, RUN_ROUND.lock_for(folder.uid), wait_s=wait_s) as is_free,
        held(redis, EXAMINE.lock_for(folder.uid), wait_s=wait_s) as is_quiet,  # it removes predictions of old versions
    ):
        begun = unfinished(folder)
        if not is_free or not is_quiet or begun is not None:
            number = f" {begun.state.number}" if begun else ""
            raise BadSetting(
                f"round{number} of project {folder.project_id} is under way and would publish its own version; wait "
                f"for it, or `maskal cancel --project {folder.project_id}`, and roll back then"
            )
        before = folder.registry.current()
        version = _version_to_serve(folder, before, to)
        place = open_workplace(settings, folder)
        pushed = _serve(place, version)
        note_rollback(folder, before, version.name)
    hint(redis, folder.uid)
    return (
        f"project {folder.project_id} is served by {version.name} again instead of {before}; "
        f"{counted(pushed, 'prediction')} sent; the next round waits for new annotations and starts from it"
    )


def _serve(place: Workplace, version: Version) -> int:
    """Push what Label Studio lacks of a version's ranking, then make it current; the number of predictions sent."""
    registry, project_id = place.folder.registry, place.folder.project_id
    waiting = {task.id for task in place.client.tasks(project_id) if not task.is_labeled}
    with registry.open_ranking(version.name, only=waiting) as rows:
        pushed = place.pusher(version.name).push(rows)
    registry.set_current(version.name)
    task_queue.publish(place.client, registry, place.client.project(project_id))
    return pushed


def versions_to_go_back_to(folder: ProjectFolder) -> tuple[str, ...]:
    """Names of the versions that can be served instead of the current one, first the one that is meant by none."""
    current, accepted = folder.registry.current(), _accepted(folder)
    names = [name for name in accepted if name != current][::-1]
    try:
        usual = _version_to_serve(folder, current, None).name
    except BadSetting:
        return tuple(names)
    return (usual, *(name for name in names if name != usual))


def _accepted(folder: ProjectFolder) -> dict[str, Version]:
    """The versions that were served and still have their weights, by name, the oldest first."""
    return {
        v.name: v
        for v in folder.registry.versions()
        if v.promoted and _was_published(folder, v) and folder.registry.weights_path(v.name).exists()
    }


def _version_to_serve(folder: ProjectFolder, current: str | None, to: str | None) -> Version:
    """The version named `to`; else what the served one was trained from, or the newest one before it."""
    accepted = _accepted(folder)
    served = next((v for v in folder.registry.versions() if v.name == current), None)  # its files may be gone
    earlier = [name for name, v in accepted.items() if current and v.number < version_number(current)]
    parent = served.parent if served and served.parent in accepted else None
    wanted = to or parent or (earlier[-1] if earlier else None)
    others = ", ".join(name for name in accepted if name != current) or "none"
    if wanted is None:
        raise BadSetting(f"{current or 'no version'} has no version before it to go back to; others: {others}")
    if wanted == current:
        raise BadSetting(f"{wanted} is the version that is served; others: {others}")
    if wanted not in accepted:
        raise BadSetting(f"there is no accepted version {wanted!r} to go back to; others: {others}")
    return accepted[wanted]


def _was_published(folder: ProjectFolder, version: Version) -> bool:
    """Whether a version has a ranking to push: its round did not fail on the way there."""
    path = folder.rounds / str(version.number)
    return not path.is_dir() or Round(path).state.state == STATES[-1]
