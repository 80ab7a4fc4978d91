"""What the processes tell each other about a project, in Redis; all of it may be lost without harm."""

from __future__ import annotations

import time

from redis import Redis

DIRTY = "maskal:dirty"
CLOCK = "maskal:clock"
ADDRESS = "maskal:worker-address"
CLOCK_TTL_S = 15

CLOCKS_DIFFER_S = 60.0
"""So far the clocks of the machines that share a Redis may be apart."""


def note_change(redis: Redis, uid: str) -> None:
    """Note that a project may have changed; it is examined closely a few seconds later."""
    redis.zadd(DIRTY, {uid: time.time()}, nx=True)
    redis.incr(key("changes", uid))


def changed_before(redis: Redis, moment: float) -> list[str]:
    """Uids of the projects whose first unexamined change was noted before a moment (Unix time).

    Or long after now, as it seems where the clock was set back since.
    """
    members: list[bytes] = redis.zrangebyscore(DIRTY, 0, moment)  # type: ignore[assignment]
    later: list[bytes] = redis.zrangebyscore(DIRTY, time.time() + CLOCKS_DIFFER_S, "+inf")  # type: ignore[assignment]
    return [member.decode() for member in (*members, *later)]


def forget_change(redis: Redis, uid: str) -> None:
    """Take the note of a change away, because the project is going to be examined."""
    redis.zrem(DIRTY, uid)


def changes(redis: Redis, uid: str) -> int:
    """How many changes of a project were noted so far, those that were examined included."""
    return int(redis.get(key("changes", uid)) or 0)


def force_round(redis: Redis, uid: str) -> None:
    """Ask for a round whatever is missing."""
    redis.set(key("force", uid), 1)


def is_forced(redis: Redis, uid: str) -> bool:
    """Whether somebody asked for a round."""
    return bool(redis.exists(key("force", uid)))


def forget_force(redis: Redis, uid: str) -> None:
    """Take the wish for a round away, because one begins."""
    redis.delete(key("force", uid))


def cancel_round(redis: Redis, uid: str, number: int) -> None:
    """Ask for the end of a round."""
    redis.set(key("cancel", uid), number)


def is_cancelled(redis: Redis, uid: str, number: int) -> bool:
    """Whether somebody asked for the end of a round."""
    return redis.get(key("cancel", uid)) == str(number).encode()


def forget_cancelled(redis: Redis, uid: str) -> None:
    """Take the wishes for a round and for its end away, because it was ended."""
    redis.delete(key("cancel", uid), key("force", uid))


def note_event(redis: Redis, uid: str, *, is_forced: bool) -> None:
    """Note that an event of a project arrived, that it may have changed, and whether somebody asked for a round.

    All in one call to Redis, as Label Studio's user waits for the answer.
    """
    with redis.pipeline(transaction=False) as calls:
        calls.set(key("event", uid), time.time())
        if is_forced:
            force_round(calls, uid)
        note_change(calls, uid)
        calls.execute()


def last_event(redis: Redis, uid: str) -> float | None:
    """When the last event of a project arrived (Unix time), None if none did."""
    moment: bytes | None = redis.get(key("event", uid))  # type: ignore[assignment]
    return None if moment is None else float(moment)


def note_worker(redis: Redis, fingerprint: str, label_studio_url: str | None) -> None:
    """Say that a `maskal worker` lives, which secrets it holds, and which Label Studio its environment names."""
    redis.set(CLOCK, fingerprint, ex=CLOCK_TTL_S)
    redis.set(ADDRESS, label_studio_url or "", ex=CLOCK_TTL_S)


def data_of_worker(redis: Redis) -> str | None:
    """Fingerprint of the secrets of the `maskal worker` that ticked last; None if none ticks."""
    found: bytes | None = redis.get(CLOCK)  # type: ignore[assignment]
    return None if found is None else found.decode()


def address_of_worker(redis: Redis) -> str | None:
    """Label Studio's address in the environment of the `maskal worker` that ticked last; None if it has none."""
    found: bytes | None = redis.get(ADDRESS)  # type: ignore[assignment]
    return found.decode() if found else None


def key(kind: str, uid: str) -> str:
    """Name in Redis of a project's mark."""
    return f"maskal:{kind}:{uid}"
