"""The functions that RQ's workers run."""

from __future__ import annotations

import logging
import signal
import time
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq.timeouts import JobTimeoutException

from backend.errors import Cancelled, LockLost, NotFound, TurnOver
from backend.label_studio.client import Project
from backend.logs import about
from backend.project.folder import UID, ProjectFolder
from backend.project.workplace import Workplace, find_project, open_workplace
from backend.queue import marks
from backend.queue.connection import open_redis
from backend.queue.jobs import EXAMINE, HELP_RANK, RUN_ROUND, TIDY, Kind, enqueue, hint
from backend.queue.locks import Hold, held
from backend.queue.progress import keep_progress, report
from backend.rounds import task_queue
from backend.rounds.faults import in_words
from backend.rounds.first_images import order_first_images, publish_first_images
from backend.rounds.folder import CANCELLABLE, Report, Round, start_round, unfinished
from backend.rounds.glances import CACHE_BYTES as GLANCES_BYTES
from backend.rounds.glances import glances_folder
from backend.rounds.near_copies import look_for_near_copies
from backend.rounds.need import need_of
from backend.rounds.new_tasks import score_new_tasks
from backend.rounds.old_versions import remove_old_versions
from backend.rounds.pictures import CACHE_BYTES, thumbnails
from backend.rounds.reading import read_snapshot_of
from backend.rounds.receipt import note_annotations
from backend.rounds.snapshots import write_snapshot
from backend.rounds.standing import has_standing, write_standing
from backend.settings import Settings, read_settings
from backend.workers.looks import Look
from backend.workers.team import Duty, Team
from backend.workers.turns import SHARE_S, Turn, has_to_wait
from model.file_cache import trim_cache
from model.files import remove_leftovers

logger = logging.getLogger(__name__)

COMPUTING = {
    "run": ("backend.rounds.steps", "run"),
    "help_rank": ("backend.rounds.helping", "help_rank"),
    "score": ("backend.rounds.computing", "score"),
    "open_feature_cache": ("backend.rounds.computing", "open_feature_cache"),
}
"""What needs torch; imported by a job that computes, so that workers and looks that find nothing to do stay small."""

FULL_RECONCILE_S = 3600
GONE_S = 24 * 3600
"""How often the log says that a project is gone."""


def examine(uid: str) -> None:
    """Job: compare Label Studio with what is on disk, and start what is due."""
    settings = read_settings()
    redis = open_redis(settings)
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    with _logged(EXAMINE, uid), held(redis, EXAMINE.lock_for(uid)) as is_mine:
        if is_mine and folder.is_connected:
            examine_project(redis, settings, folder)


def run_round(uid: str) -> None:
    """Job: finish the round that was begun, then make new ones for as long as one is due and nobody else waits."""
    settings = read_settings()
    redis = open_redis(settings)
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    with _logged(RUN_ROUND, uid), held(redis, RUN_ROUND.lock_for(uid)) as is_mine:
        while is_mine and folder.is_connected:
            place = open_workplace(settings, folder)
            current = unfinished(folder) or _due_round(redis, place)
            if current is None:
                return
            if current.is_waiting:  # somebody pressed *Start Training*, and this is what he gets for it
                marks.forget_force(redis, uid)
            _run(redis, place, current, is_mine)
            hint(redis, uid)
            if has_to_wait(redis, uid):
                return


def help_rank(uid: str, seat: int) -> None:
    """Job: score pieces of the ranking that another worker is at, which does without where this one cannot."""
    settings = read_settings()
    redis = open_redis(settings)
    folder = ProjectFolder(settings.data_dir / "projects" / uid)
    with _aside(HELP_RANK, uid, seat), held(redis, HELP_RANK.lock_for(uid, seat)) as is_mine:
        duty = Duty(redis, uid)
        if not is_mine or duty.is_over():
            return
        if not folder.is_connected:
            raise NotFound(f"project {uid} is not in DATA_DIR {settings.data_dir}; all workers have to share one")
        current = unfinished(folder)
        if current is not None and current.pieces.exists():
            with about(round=current.state.number):
                _compute("help_rank", open_workplace(settings, folder), current, duty)


def tidy(uid: str) -> None:
    """Job: keep the caches at their sizes, and remove what crashes left beside and in the projects."""
    settings = read_settings()
    with _logged(TIDY, uid), held(open_redis(settings), TIDY.lock_for(uid)) as is_mine:
        if is_mine:
            trim_cache(settings.data_dir / "cache" / "images", settings.image_cache_gb * 1e9)
            trim_cache(thumbnails(settings.data_dir), min(CACHE_BYTES, settings.image_cache_gb * 1e9))
            trim_cache(glances_folder(settings.data_dir), min(GLANCES_BYTES, settings.image_cache_gb * 1e9))
            trim_cache(settings.data_dir / "cache" / "features", settings.feature_cache_gb * 1e9)
            remove_leftovers(settings.data_dir / "projects")


def _compute(name: str, *arguments: Any) -> Any:
    module, attribute = COMPUTING[name]
    return getattr(import_module(module), attribute)(*arguments)


def _run(redis: Redis, place: Workplace, current: Round, is_mine: Hold) -> None:
    """Make a round, or what is left of it; and where it does not come to its end, note in its state how it goes on."""
    uid, number = place.folder.uid, current.state.number
    tell = _teller(redis, uid, current, is_mine)
    current.begin()
    try:
        with about(round=number):
            if current.can_be_cancelled:
                _heed_cancel(redis, uid, number)
            _compute("run", place, current, tell, Team(redis, uid))
    except Cancelled:
        _cancel(redis, place, current)
    except TurnOver as err:
        current.hand_back()
        logger.info("%s", err)
    except LockLost:
        raise
    except (SystemExit, JobTimeoutException):  # the worker stops, or RQ ends a job that was long at work
        current.hand_back()
        raise
    except Exception as err:
        current.note_failure(err)
        raise


def _teller(redis: Redis, uid: str, current: Round, is_mine: Hold) -> Report:
    """What a round tells how far it is, and what stops it there."""
    number, turn = current.state.number, Turn(redis, uid, current, SHARE_S)

    def tell(step: str, share: float, **details: Any) -> None:
        if not is_mine:
            raise LockLost(f"round {number} of project {uid} is another worker's now; this one leaves it alone")
        if not keep_progress(step, share, details):
            return
        if step in CANCELLABLE:
            _heed_cancel(redis, uid, number)
        if turn.is_over(step, share):
            raise TurnOver(f"round {number} of project {uid} makes way for another project's at step {step}")

    return tell


def _cancel(redis: Redis, place: Workplace, current: Round) -> None:
    if current.snapshot() is None:  # so that the next round waits for new annotations
        write_snapshot(current.path / "snapshot.json", read_snapshot_of(place)[0])
    current.cancel()
    marks.forget_cancelled(redis, place.folder.uid)
    logger.info("project %s: round %d was cancelled", place.folder.uid, current.state.number)


def _heed_cancel(redis: Redis, uid: str, number: int) -> None:
    try:
        is_cancelled = marks.is_cancelled(redis, uid, number)
    except RedisError:  # a round needs no Redis; it is asked again a second later
        return
    if is_cancelled:
        raise Cancelled("cancelled by `maskal cancel`")


def examine_project(redis: Redis, settings: Settings, folder: ProjectFolder) -> None:
    """One look at a project: follow the served version, start what is due, score what lacks a score, clean up.

    One call to Label Studio, as long as nothing has happened.
    """
    try:
        project = find_project(settings, folder)
    except NotFound as err:
        if redis.set(marks.key("gone", folder.uid), 1, nx=True, ex=GONE_S):
            logger.warning("%s", err)
        return
    look = Look(redis, folder, project)
    if look.may_rest(settings.task_lock_s):
        _go_on(redis, folder)
        return
    place = open_workplace(settings, folder, project)
    task_queue.publish(place.client, folder.registry, project)
    has_begun = _go_on(redis, folder)
    is_settled = _read_what_changed(settings, place, look, has_begun=has_begun)
    publish_first_images(place, project)
    if task_queue.remove_old_predictions(place, project, settings.task_lock_s, now=time.time()):
        hint(redis, folder.uid)
    remove_old_versions(place)
    if is_settled:
        look.note_close()


def _go_on(redis: Redis, folder: ProjectFolder) -> bool:
    """Go on with a round that was begun, unless it waits; whether there is one."""
    begun = unfinished(folder)
    if begun is not None and (not begun.is_waiting or _is_asked_for(redis, folder.uid, begun.state.number)):
        enqueue(redis, RUN_ROUND, folder.uid)
    return begun is not None


def _is_asked_for(redis: Redis, uid: str, number: int) -> bool:
    """Whether somebody wants a round that waits to be tried, or to end, at once."""
    return marks.is_forced(redis, uid) or marks.is_cancelled(redis, uid, number)


def _read_what_changed(settings: Settings, place: Workplace, look: Look, *, has_begun: bool) -> bool:
    """If anything has changed: write the receipt, start a round that is due, score new tasks. Whether all is done."""
    redis, folder, project = look.redis, look.folder, look.project
    seen = look.seen(place.client.newest_change(project.id))
    before = redis.get(marks.key("seen", folder.uid))
    in_full = before is None
    if seen == before and has_standing(folder):
        return True
    touched = note_annotations(place)
    is_forced = marks.is_forced(redis, folder.uid)
    need = None if has_begun else need_of(place, project, in_full=in_full, is_forced=is_forced)
    is_due = need is not None and need.is_due
    if is_due:
        enqueue(redis, RUN_ROUND, folder.uid)
    is_more = _look_at_images(settings, place, project, has_round=has_begun or is_due, in_full=in_full)
    write_standing(place, project, need, touched)
    if is_more:
        hint(redis, folder.uid)
    elif not is_due and in_full:
        redis.set(marks.key("seen", folder.uid), seen, ex=FULL_RECONCILE_S)
    elif not is_due:  # the hour since the last full look goes on, so that steady work does not put off the next one
        redis.set(marks.key("seen", folder.uid), seen, xx=True, keepttl=True)
    return not is_more and not is_due


def _look_at_images(settings: Settings, place: Workplace, project: Project, *, has_round: bool, in_full: bool) -> bool:
    """Find near copies, score new tasks, and order the first images; whether there is more to do."""
    open_cache = partial(_compute, "open_feature_cache", place, settings)
    has_more_copies = not has_round and look_for_near_copies(place, project, open_cache, report, in_full=in_full)
    pushed, has_more_new = score_new_tasks(place, report, partial(_compute, "score"))
    if pushed:
        task_queue.publish(place.client, place.folder.registry, project)
    has_more_first = order_first_images(place, open_cache, report, may_begin=not has_round)
    return has_more_copies or has_more_new or has_more_first


def _due_round(redis: Redis, place: Workplace) -> Round | None:
    """A new round if the project's annotations ask for one."""
    uid = place.folder.uid
    project = place.client.project(place.folder.project_id)
    is_forced = marks.is_forced(redis, uid)
    found = need_of(place, project, in_full=True, is_forced=is_forced)
    if not found.is_due:
        return None
    marks.forget_force(redis, uid)
    logger.info("project %s: a round is due: %s", uid, found.reason)
    known = task_queue.largest_number(place.client, place.folder.project_id)
    return start_round(place.folder, known, is_forced=is_forced)


class _logged:
    """The jobs' door: an error is logged with its traceback and raised on to RQ; SIGTERM ends a job as an error would.

    So what the job holds is given back, and a round goes on where it was as soon as there is a worker again.
    """

    def __init__(self, kind: Kind, uid: str, seat: int = 0) -> None:
        self.job = kind.id_for(uid, seat)
        project = {"project": int(uid.partition(".")[0])} if UID.fullmatch(uid) else {}
        self._about = about(job=self.job, **project)

    def __enter__(self) -> None:
        self._about.__enter__()
        self._before = signal.signal(signal.SIGTERM, _stop)

    def __exit__(self, kind: Any, err: BaseException | None, traceback: Any) -> bool:
        signal.signal(signal.SIGTERM, self._before)
        if isinstance(err, SystemExit):
            logger.info("%s is handed back, as the worker stops", self.job)
        is_settled = self._tell(err) if isinstance(err, Exception) else False
        self._about.__exit__(None, None, None)
        return is_settled

    def _tell(self, err: Exception) -> bool:
        """Log an error; whether that is all there is to do about it."""
        logger.error("%s stopped: %s", self.job, err, exc_info=err)
        return False


class _aside(_logged):
    """The door of jobs whose work is done without them all the same: an error is told in a line, and ends there."""

    def _tell(self, err: Exception) -> bool:
        logger.warning("%s stopped, the round goes on without it: %s", self.job, in_words(err))
        return True


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the handing back
    raise SystemExit("the worker stops")
