"""What keeps a project from going on, and how to mend it: one line each, for `maskal status`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from redis import Redis

from backend.care.rollback import versions_to_go_back_to
from backend.errors import BackendError
from backend.project.folder import ProjectFolder
from backend.queue import marks
from backend.queue.claims import is_claimed_elsewhere
from backend.queue.connection import redis_address, refusal
from backend.queue.jobs import RUN_ROUND
from backend.queue.locks import is_held
from backend.rounds.folder import FAILED, all_rounds, unfinished
from backend.settings import Settings
from model.errors import BadVersion
from model.files import check_writable

OFTEN = 2
"""So many workers killed in the same step are no chance any more."""


def troubles(
    settings: Settings, redis: Redis | None, folder: ProjectFolder, outage: BackendError | None, *, in_full: bool
) -> Iterator[str]:
    """What is wrong around a project, or if nothing is, with its last round; empty if all is well.

    `outage` is why Label Studio cannot be asked. The served version's weights, which may be large, are looked at only
    `in_full`.
    """
    found = [*_of_redis(settings, redis), *_of_disk(settings), *([str(outage)] if outage else [])]
    found += _of_served_version(folder) if in_full else []
    yield from found or _of_round(redis, folder)


def _of_redis(settings: Settings, redis: Redis | None) -> Iterator[str]:
    if redis is None:
        yield (
            f"no Redis answers at {redis_address(settings)}; start it or set REDIS_URL. Annotations are read from "
            "Label Studio once it is there"
        )
    elif why := refusal(redis):
        yield f"the Redis at {redis_address(settings)} {why}"
    elif is_claimed_elsewhere(redis, settings.data_dir):
        yield (
            f"workers with another Redis look after DATA_DIR {settings.data_dir}; give all the same REDIS_URL, or stop "
            "those"
        )
    elif marks.data_of_worker(redis) is None:
        yield "no worker looks after the projects; start `maskal worker`"


def _of_disk(settings: Settings) -> Iterator[str]:
    try:
        check_writable(settings.data_dir)
    except OSError as err:
        yield (
            f"DATA_DIR {settings.data_dir} cannot be written ({err.strerror}); make room on its disk, or let it be "
            "written again"
        )


def _of_served_version(folder: ProjectFolder) -> Iterator[str]:
    served = folder.registry.current()
    if served is None:
        return
    try:
        path, wanted = folder.registry.weights_path(served), folder.registry.get(served).weights_sha256
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            yield f"the weights of {served}, which is served, are not those that were stored ({path}); {_mend(folder)}"
    except (BadVersion, OSError) as err:
        yield f"{served}, which is served, cannot be read ({err}); {_mend(folder)}"


def _mend(folder: ProjectFolder) -> str:
    """What to do where the served version is damaged."""
    if not versions_to_go_back_to(folder):
        return "restore it from a backup"
    first = f"`maskal cancel --project {folder.project_id}` and " if unfinished(folder) else ""
    return f"restore it from a backup, or serve another by {first}`maskal rollback --project {folder.project_id}`"


def _of_round(redis: Redis | None, folder: ProjectFolder) -> Iterator[str]:
    last = next(reversed(all_rounds(folder)), None)
    if last is None or last.is_concluded:
        return
    state = last.state
    is_running = redis is not None and is_held(redis, RUN_ROUND.lock_for(folder.uid))
    kills = state.begun - is_running
    if state.state == FAILED:
        yield (
            f"round {state.number} failed: {state.reason}; new annotations begin another one, and so does Start "
            "Training in the project's settings"
        )
    elif state.error and not is_running:
        yield f"round {state.number} stopped: {state.error}; it goes on by itself"
    elif kills >= OFTEN:
        yield (
            f"round {state.number} was killed {kills} times at the same step; if the system did that for want of "
            "memory, end what else fills it, or set a smaller train_batch_size or network_config; it goes on by itself"
        )
