"""`maskal cancel`: end a round before its version is accepted."""

from __future__ import annotations

from redis import Redis

from backend.project.folder import ProjectFolder
from backend.queue.connection import require_writable
from backend.queue.jobs import hint
from backend.queue.marks import cancel_round
from backend.rounds.folder import unfinished


def cancel(redis: Redis, folder: ProjectFolder) -> str:
    """Cancel the round that a project is at; says what comes of it. QueueUnavailable where Redis takes no data."""
    current = unfinished(folder)
    if current is None:
        return f"no round of project {folder.project_id} is under way"
    if not current.can_be_cancelled:
        return (
            f"round {current.state.number} is {current.state.state}: its version is accepted already; "
            "wait for it, then go back with `maskal rollback`"
        )
    require_writable(redis)
    cancel_round(redis, folder.uid, current.state.number)
    hint(redis, folder.uid)
    return f"round {current.state.number} is being cancelled; the next one waits for new annotations"
