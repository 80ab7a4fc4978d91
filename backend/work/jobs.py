"""The queue: what is enqueued, when, and the functions that RQ's workers run."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker, get_current_job
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus

from backend.errors import Cancelled, NotFound, QueueUnavailable
from backend.label_studio.client import Project
from backend.label_studio.images import trim_cache
from backend.project.credentials import fingerprint, load_credentials
from backend.project.folder import ProjectFolder, connected_projects
from backend.project.unreadable import Unreadable
from backend.project.workplace import Workplace, open_client, open_workplace
from backend.queue.locks import held, is_held
from backend.rounds import steps, task_queue
from backend.rounds.folder import Round, all_rounds, last_concluded, start_round, unfinished
from backend.rounds.snapshots import Need, assess_need, write_snapshot
from backend.settings import DEFAULT_REDIS_URL, Settings, read_settings

logger = logging.getLogger(__name__)

ROUNDS, SHORT = "rounds", "short"
TIMEOUT_S = {ROUNDS: 24 * 3600, SHORT: 6 * 3600}
DEBOUNCE_S = 5.0
RECONCILE_S = 45
FULL_RECONCILE_S = 3600
START_GRACE_S = 30.0

DIRTY = "maskal:dirty"
RECONCILED = "maskal:reconciled"
GONE_S = 24 * 3600
"""How often the log says that a project is gone."""

TIDIED = "maskal:tidied"
CLOCK = "maskal:clock"
CLOCK_TTL_S = 15
EVERYWHERE = "all"


def open_redis(settings: Settings) -> Redis:
    """The queue's Redis; QueueUnavailable if it does not answer."""
    url = settings.redis_url or DEFAULT_REDIS_URL
    redis = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=5)
    try:
        redis.ping()
    except RedisError as err:
        raise QueueUnavailable(
            f"no Redis answers at {redis_address(settings)} ({err}); start one or set REDIS_URL"
        ) from err
    return redis


def redis_address(settings: Settings) -> str:
    """Where the queue's Redis is, without its password."""
    scheme, _, rest = (settings.redis_url or DEFAULT_REDIS_URL).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def hint(redis: Redis, uid: str, *, is_forced: bool = False) -> str:
    """Note that a project may have changed; it is examined a few seconds later. Returns the id of its round job."""
    if is_forced:
        redis.set(_key("force", uid), 1)
    redis.zadd(DIRTY, {uid: time.time()}, nx=True)
    return _job_id("run_round", uid)


def note_event(redis: Redis, uid: str) -> None:
    """Remember when the last event of a project arrived, for `maskal doctor`."""
    redis.set(_key("event", uid), time.time())


def last_event(redis: Redis, uid: str) -> float | None:
    """When the last event of a project arrived (Unix time), None if none did."""
    moment: bytes | None = redis.get(_key("event", uid))  # type: ignore[assignment]
    return None if moment is None else float(moment)


def has_worker(redis: Redis, queue: str) -> bool:
    """Whether a living RQ worker looks after a queue."""
    return bool(Worker.all(queue=Queue(queue, connection=redis)))


def data_of_worker(redis: Redis) -> str | None:
    """Fingerprint of the secrets of the `maskal worker` that ticked last; None if none ticks."""
    found: bytes | None = redis.get(CLOCK)  # type: ignore[assignment]
    return None if found is None else found.decode()


def tick(redis: Redis, settings: Settings) -> None:
    """Enqueue what is due; called about once a second by every `maskal worker`. A flushed Redis loses nothing."""
    redis.set(CLOCK, fingerprint(load_credentials(settings)), ex=CLOCK_TTL_S)
    if redis.set(RECONCILED, 1, nx=True, ex=RECONCILE_S):
        for folder in connected_projects(settings.data_dir):
            _enqueue(redis, SHORT, examine, folder.uid)
    if redis.set(TIDIED, 1, nx=True, ex=FULL_RECONCILE_S):
        _enqueue(redis, SHORT, tidy, EVERYWHERE)
    due: list[bytes] = redis.zrangebyscore(DIRTY, 0, time.time() - DEBOUNCE_S)  # type: ignore[assignment]
    for uid in (member.decode() for member in due):
        if _enqueue(redis, SHORT, examine, uid, at_front=True):
            redis.zrem(DIRTY, uid)


def work(redis: Redis, queue: str) -> None:
    """Run jobs of one queue, each in a forked process, until stopped."""
    Worker([Queue(queue, connection=redis)], connection=redis).work(logging_level="WARNING")


def describe(redis: Redis, job_id: str) -> dict[str, Any] | None:
    """Status and progress of a job, None if there is none of that id (any more)."""
    job = _find(redis, job_id)
    if job is None:
        return None
    status = job.get_status(refresh=True)
    return {
        "job_status": status.value if isinstance(status, JobStatus) else str(status),
        "created_at": _iso(job.created_at),
        "enqueued_at": _iso(job.enqueued_at),
        "started_at": _iso(job.started_at),
        "ended_at": _iso(job.ended_at),
        "progress": job.get_meta().get("progress"),
    }


def round_job(redis: Redis, uid: str) -> dict[str, Any] | None:
    """Status and progress of a project's round job."""
    return describe(redis, _job_id("run_round", uid))


def examine(uid: str) -> None:
    """Job: compare Label Studio with what is on disk, and start what is due."""
    settings = read_settings()
    redis = open_redis(settings)
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    with _logged(f"examine {uid}"), held(redis, f"examine:{uid}") as is_mine:
        if is_mine:
            examine_project(redis, settings, folder)


def run_round(uid: str) -> None:
    """Job: finish the round that was begun, then make new ones for as long as one is due."""
    settings = read_settings()
    redis = open_redis(settings)
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    with _logged(f"round of {uid}"), held(redis, f"round:{uid}") as is_mine:
        while is_mine:
            place = open_workplace(settings, folder)
            current = unfinished(folder) or _due_round(redis, place)
            if current is None:
                return
            _run(redis, place, current)
            hint(redis, uid)


def tidy(uid: str) -> None:
    """Job: keep the image cache at its size, and remove what crashes left in the registries."""
    settings = read_settings()
    with _logged("tidying"), held(open_redis(settings), f"tidy:{uid}") as is_mine:
        if is_mine:
            trim_cache(settings.data_dir / "cache" / "images", settings.image_cache_gb * 1e9)
            for folder in connected_projects(settings.data_dir):
                folder.registry.clean()


def _run(redis: Redis, place: Workplace, current: Round) -> None:
    key, number = _key("cancel", place.folder.uid), str(current.state.number).encode()

    def tell(step: str, share: float, **details: Any) -> None:
        if _keep_progress(step, share, details) and step in CANCELLABLE and redis.get(key) == number:
            raise Cancelled("cancelled by `maskal cancel`")

    try:
        steps.run(place, current, tell)
    except Cancelled:
        if current.snapshot() is None:  # so that the next round waits for new annotations
            write_snapshot(current.path / "snapshot.json", steps.read_snapshot_of(place)[0])
        current.cancel()
        redis.delete(key)
        logger.info("project %s: round %d was cancelled", place.folder.uid, current.state.number)
    except Exception as err:
        current.note_failure(err)
        raise


def examine_project(redis: Redis, settings: Settings, folder: ProjectFolder) -> None:
    """One look at a project: follow the served version, start what is due, score what lacks a score, clean up."""
    try:
        project = find_project(settings, folder)
    except NotFound as err:
        if redis.set(_key("gone", folder.uid), 1, nx=True, ex=GONE_S):
            logger.warning("%s", err)
        return
    place = open_workplace(settings, folder, project)
    task_queue.publish(place.client, folder.registry, project)
    begun = unfinished(folder)
    if begun is not None and begun.state.retry_at <= time.time():
        _enqueue(redis, ROUNDS, run_round, folder.uid)
    _look(redis, place, project, has_begun=begun is not None)
    if task_queue.remove_old_predictions(place.client, folder.registry, folder.project_id):
        hint(redis, folder.uid)


def find_project(settings: Settings, folder: ProjectFolder) -> Project:
    """A folder's project; NotFound if it was deleted, or if its number belongs to a project of another database."""
    kept = f"{folder.path} is kept, remove it if it is no longer needed"
    try:
        project = open_client(settings).project(folder.project_id)
    except NotFound as err:
        raise NotFound(f"project {folder.uid} no longer exists in Label Studio; {kept}") from err
    if project.uid != folder.uid:
        raise NotFound(
            f"project {folder.uid} is not in this Label Studio, whose number {project.id} is {project.uid}; {kept}"
        )
    return project


def _look(redis: Redis, place: Workplace, project: Project, *, has_begun: bool) -> None:
    """Read what has changed, if anything has: start a round that is due, score tasks that lack a score."""
    folder = place.folder
    seen = _fingerprint(redis, place, project)
    before = redis.get(_key("seen", folder.uid))
    if seen == before:
        return
    is_due = not has_begun and need(redis, place, project, in_full=before is None).is_due
    if is_due:
        _enqueue(redis, ROUNDS, run_round, folder.uid)
    pushed, is_more = steps.score_new_tasks(place, report)
    if pushed:
        task_queue.publish(place.client, folder.registry, project)
    if is_more:
        hint(redis, folder.uid)
    elif not is_due:
        redis.set(_key("seen", folder.uid), seen, ex=FULL_RECONCILE_S)


def _fingerprint(redis: Redis, place: Workplace, project: Project) -> bytes:
    """What two cheap calls and the disk tell; as long as it stays the same there is nothing to do."""
    folder = place.folder
    retries = sum(not failure.is_waiting for failure in Unreadable(folder.path).failures().values())
    facts = [
        project.counters,
        place.client.newest_change(project.id),
        project.label_config,
        [r.state.state for r in all_rounds(folder)],
        folder.registry.current(),
        bool(redis.exists(_key("force", folder.uid))),
        retries,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest().encode()


def need(redis: Redis | None, place: Workplace, project: Project, *, in_full: bool) -> Need:
    """Whether a round is due. Unless `in_full`, the annotations are only read if enough tasks were touched."""
    folder, config = place.folder, place.config
    is_forced = redis is not None and bool(redis.exists(_key("force", folder.uid)))
    concluded = last_concluded(folder)
    before = concluded.snapshot() if concluded else None
    if before is None and not is_forced and project.counters[1] < config.initial_datasize:
        missing = config.initial_datasize - project.counters[1]
        return Need(
            False, project.counters[1], missing, f"{project.counters[1]} annotations of {config.initial_datasize}"
        )
    if before is not None and before.newest and not is_forced and not in_full:
        deleted_more_than_added = before.tasks - project.counters[0]
        touched = place.client.count_changed(folder.project_id, before.newest) + deleted_more_than_added
        if touched < config.pool_size:
            return Need(False, touched, config.pool_size - touched, f"{touched} tasks touched of {config.pool_size}")
    now, _ = steps.read_snapshot_of(place)
    known = all_rounds(folder)
    if known and not known[-1].is_concluded and not is_forced:
        failed = known[-1].snapshot()
        if failed is not None and failed.digest == now.digest:
            return Need(False, 0, 1, f"round {known[-1].state.number} failed on the same annotations")
    return assess_need(
        now, before, initial_datasize=config.initial_datasize, pool_size=config.pool_size, is_forced=is_forced
    )


def _due_round(redis: Redis, place: Workplace) -> Round | None:
    """A new round if the project's annotations ask for one."""
    found = need(redis, place, place.client.project(place.folder.project_id), in_full=True)
    if not found.is_due:
        return None
    redis.delete(_key("force", place.folder.uid))
    logger.info("project %s: a round is due: %s", place.folder.uid, found.reason)
    return start_round(place.folder, task_queue.largest_number(place.client, place.folder.project_id))


def report(step: str, share: float, **details: Any) -> None:
    """Keep a job's progress in its meta data, at most about once a second."""
    _keep_progress(step, share, details)


def _keep_progress(step: str, share: float, details: dict[str, Any]) -> bool:
    """Whether it was time to."""
    job = get_current_job()
    if job is None:
        return False
    now = time.time()
    if share in (0.0, 1.0) or now - job.meta.get("at", 0) > 1:
        begun_at = job.meta["begun_at"] if job.meta.get("step") == step else now
        if share and "seconds_left" not in details:
            details["seconds_left"] = round((now - begun_at) * (1 - share) / share)
        progress = {"step": step, "percent": round(100 * share), **details}
        job.meta |= {"progress": progress, "at": now, "step": step, "begun_at": begun_at}
        job.save_meta()
        return True
    return False


def cancel(redis: Redis, folder: ProjectFolder) -> str:
    """Cancel the round that a project is at; says what comes of it."""
    current = unfinished(folder)
    if current is None:
        return f"no round of project {folder.project_id} is under way"
    if not current.can_be_cancelled:
        return (
            f"round {current.state.number} is {current.state.state}: its version is accepted already; "
            "wait for it, then go back with `maskal rollback`"
        )
    redis.set(_key("cancel", folder.uid), current.state.number)
    hint(redis, folder.uid)
    return f"round {current.state.number} is being cancelled; the next one waits for new annotations"


def _enqueue(redis: Redis, queue: str, function: Callable[[str], None], uid: str, *, at_front: bool = False) -> bool:
    """Enqueue a project's job unless it waits or runs already; True if it was enqueued or waits.

    What somebody did goes `at_front` of the regular looks at all projects. A job that is marked as started although
    nobody holds its lock belongs to a killed worker and is replaced.
    """
    job_id = _job_id(function.__name__, uid)
    lock = f"{LOCKS[function.__name__]}:{uid}"
    job = _find(redis, job_id)
    status = job.get_status(refresh=True) if job is not None else None
    if status == JobStatus.QUEUED:
        return True
    started_at = job.started_at if job is not None else None
    age_s = time.time() - started_at.replace(tzinfo=timezone.utc).timestamp() if started_at else START_GRACE_S
    if is_held(redis, lock) or (status == JobStatus.STARTED and age_s < START_GRACE_S):
        return False
    if job is not None:
        job.delete()
    Queue(queue, connection=redis).enqueue_call(
        function,
        args=(uid,),
        job_id=job_id,
        timeout=TIMEOUT_S[queue],
        result_ttl=3600,
        failure_ttl=24 * 3600,
        at_front=at_front,
    )
    return True


def _find(redis: Redis, job_id: str) -> Job | None:
    try:
        return Job.fetch(job_id, connection=redis)
    except NoSuchJobError:
        return None


CANCELLABLE = ("read", "prepare", "train", "evaluate")
"""Steps before a version is accepted."""

LOCKS = {"examine": "examine", "run_round": "round", "tidy": "tidy"}
"""The lock that each job holds while it works."""


class _logged:
    """The jobs' door: an error is logged with its traceback and raised on to RQ."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, traceback: Any) -> None:
        if isinstance(err, Exception):
            logger.error("%s stopped: %s", self.what, err, exc_info=err)


def _job_id(function: str, uid: str) -> str:
    return f"{function}-{uid.replace('.', '-')}"


def _key(kind: str, uid: str) -> str:
    return f"maskal:{kind}:{uid}"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
