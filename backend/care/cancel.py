"""`maskal cancel`: end a round before its version is accepted."""

from __future__ import annotations

from redis import Redis

from backend.project.folder import ProjectFolder
from backend.queue.connection import require_writable
from backend.queue.jobs import RUN_ROUND, hint
from backend.queue.locks import held
from backend.queue.marks import cancel_round, forget_cancelled
from backend.rounds.folder import unfinished


def cancel(redis: Redis, folder: ProjectFolder) -> str:
    """Cancel the round that a project is at; says what comes of it. QueueUnavailable where Redis takes no data.

    One that no worker is at, as it waits for its next try, ends here and now.
    """
    current = unfinished(folder)
    if current is None:
        return f"no round of project {folder.project_id} is under way"
    if not current.can_be_cancelled:
        return (
            f"round {current.state.number} is {current.state.state}: its version is accepted already; "
            f"wait for it, then go back with `maskal rollback --project {folder.project_id}`"
        )
    require_writable(redis)
    number = current.state.number
    with held(redis, RUN_ROUND.lock_for(folder.uid)) as is_mine:
        idle = unfinished(folder) if is_mine else None
        if idle is not None and idle.can_be_cancelled and idle.snapshot() is not None:
            idle.cancel()
            forget_cancelled(redis, folder.uid)
            return f"round {number} is cancelled; the next one waits for new annotations"
    cancel_round(redis, folder.uid, number)
    hint(redis, folder.uid)
    return f"round {number} is being cancelled; the next one waits for new annotations"
