"""`maskal status`: what a person wants to know about the connected projects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from redis import Redis

from backend.care.offers import annotated_objects, rare_in_words
from backend.care.troubles import troubles
from backend.counted import counted
from backend.errors import BackendError
from backend.project.folder import ProjectFolder, connected_projects, find_folder
from backend.project.unreadable import Unreadable
from backend.project.workplace import find_project, open_workplace
from backend.queue import marks
from backend.queue.jobs import round_job
from backend.rounds.copies_last import near_copies_in_words
from backend.rounds.evaluation_copies import LEFT_OUT, left_out_in_words
from backend.rounds.first_images import first_images_in_words
from backend.rounds.folder import CANCELLED, FAILED, Round, all_rounds, last_concluded, unfinished
from backend.rounds.history import read_history
from backend.rounds.need import need_of
from backend.rounds.payoff import payoff_in_words, read_payoff
from backend.rounds.plan import find_plan, proposal
from backend.rounds.reading import Chosen, read_snapshot_of
from backend.rounds.snapshots import Need, Snapshot
from backend.rounds.summary import front_in_words
from backend.rounds.trial import choosing_in_words
from backend.settings import Settings
from model.errors import BadVersion, ModelError
from model.registry import Version

LISTED = 10
"""Tasks that do not count, and notes, of which status tells one by one."""

NOTHING: tuple[Snapshot, Chosen] = (Snapshot(()), {})
"""What is annotated where nothing is, or where nobody has looked."""


def describe(settings: Settings, redis: Redis | None, project_id: int | None = None) -> Iterator[str]:
    """Lines about each project: what the next round needs, versions with their AP, rounds, jobs, unreadable images.

    The annotations, which take long to read, are looked at only where it is about one project.
    """
    if project_id is None:
        folders = connected_projects(settings.data_dir)
    else:
        folders = [find_folder(settings.data_dir, project_id)]
    is_one = len(folders) == 1
    if not folders:
        yield f"no project is connected (data in {settings.data_dir}); run `maskal connect`"
    for folder in folders:
        try:
            yield from list(_project_lines(settings, folder, redis, in_full=is_one))
        except ModelError as err:  # of a newer release, or damaged
            if is_one:
                raise
            yield f"project {folder.project_id} ({folder.uid}) is left alone: {err}"


def _project_lines(settings: Settings, folder: ProjectFolder, redis: Redis | None, *, in_full: bool) -> Iterator[str]:
    yield f"project {folder.project_id} ({folder.uid}), serving {folder.registry.current() or 'no version yet'}"
    outlook, outage = _outlook(settings, folder, redis, in_full=in_full)
    yield from (f"  trouble: {line}" for line in troubles(settings, redis, folder, outage, in_full=in_full))
    yield from outlook
    yield from (f"  {line}" for line in (_proposal(folder),) if line)
    yield from _version_lines(folder)
    yield from (f"  {line}" for line in payoff_in_words(read_payoff(folder)))
    yield from (_round_line(r) for r in _rounds_of_interest(folder))
    notes = _last_notes(folder)
    yield from (f"  note: {line}" for line in notes[-LISTED:])
    if more := len(notes[:-LISTED]):
        yield f"  and {counted(more, 'more such note')}, all of them in the worker's log"
    yield from _job_lines(folder, redis)
    failures = [f"  task {task} is not scored: {f.error}" for task, f in Unreadable(folder.path).failures().items()]
    yield from failures[-LISTED:]
    if more := len(failures[:-LISTED]):
        yield f"  and {more} more task{'s are' if more > 1 else ' is'} not scored, all of them in the worker's log"


def _outlook(
    settings: Settings, folder: ProjectFolder, redis: Redis | None, *, in_full: bool
) -> tuple[list[str], BackendError | None]:
    """What is missing until the next round, by what Label Studio holds now; and why that is not known."""
    try:
        return list(_outlook_lines(settings, folder, redis, in_full=in_full)), None
    except BackendError as err:
        return ["  not known what the next round needs"], err


def _outlook_lines(settings: Settings, folder: ProjectFolder, redis: Redis | None, *, in_full: bool) -> Iterator[str]:
    """What is missing until the next round, and which annotations do not count."""
    project = find_project(settings, folder)
    place = open_workplace(settings, folder, project)
    is_forced = redis is not None and marks.is_forced(redis, folder.uid)
    now, chosen = NOTHING
    if in_full and project.counters[1]:
        now, chosen = read_snapshot_of(place)
    need = need_of(place, project, in_full=in_full, is_forced=is_forced, now=now if in_full else None)
    if current := unfinished(folder):
        yield f"  round {current.state.number} is under way; what the next one needs is known after it"
    else:
        yield f"  {_need_in_words(need)} ({need.reason})"
    yield from (f"  {line}" for line in first_images_in_words(place, project, LISTED))
    annotated = {entry.task for entry in now.entries}
    yield from (f"  {line}" for line in near_copies_in_words(folder, annotated if in_full else None))
    yield from (f"  {line}" for line in choosing_in_words(folder))
    yield from (f"  {line}" for line in front_in_words(folder, annotated, LISTED) if in_full)
    if project.counters[1] < project.counters[0]:
        objects = annotated_objects(now, chosen, place.labels)
        yield from (f"  {line}" for line in rare_in_words(folder.project_id, objects))
    yield from (f"  note: {line}" for line in (*place.labels.remarks, *place.config.remarks(place.labels.classes)))
    if in_full:
        yield from _left_out_lines(folder, now)
    else:
        yield f"  which annotations do not count is told by `maskal status --project {folder.project_id}`"


def _need_in_words(need: Need) -> str:
    if need.missing is None:
        return "no further round begins by itself"
    return "the next round " + ("is due" if need.is_due else f"needs {counted(need.missing, 'more annotation')}")


def _left_out_lines(folder: ProjectFolder, now: Snapshot) -> Iterator[str]:
    """The annotated tasks that do not count, the newest first, each with the mend."""
    concluded = last_concluded(folder)
    before = concluded.snapshot() if concluded else None
    learned = {(entry.task, entry.digest) for entry in before.entries} if before else set()
    for one in now.left_out[: -LISTED - 1 : -1]:
        was = (
            f"; {concluded.version} learned from it as if nothing were missing, the next round corrects that"
            if concluded and (one.task, one.digest) in learned
            else ""
        )
        yield f"  task {one.task} does not count: {'; '.join(one.reasons)}{was}"
    if more := len(now.left_out[:-LISTED]):
        yield f"  and {more} more annotated task{'s do' if more > 1 else ' does'} not count for such reasons"


def _proposal(folder: ProjectFolder) -> str | None:
    """What could be chosen better; nothing where settings or version cannot be read, which others tell."""
    try:
        return proposal(folder.config(), folder)
    except (BackendError, BadVersion):
        return None


def _rounds_of_interest(folder: ProjectFolder) -> list[Round]:
    """The newest round where it has made no version: it is not concluded, or was cancelled."""
    return [r for r in all_rounds(folder)[-1:] if not r.is_concluded or r.state.state == CANCELLED]


def _last_notes(folder: ProjectFolder) -> tuple[str, ...]:
    """What the newest round could not use, and what it noticed."""
    rounds = all_rounds(folder)
    snapshot = rounds[-1].snapshot() if rounds else None
    plan = find_plan(rounds[-1]) if rounds and not rounds[-1].is_concluded else None
    return (*((plan.note,) if plan and plan.note else ()), *(snapshot.problems if snapshot else ()))


def _version_lines(folder: ProjectFolder) -> Iterator[str]:
    """The newest versions and the served one, and how many others there are."""
    versions, served = folder.registry.versions(), folder.registry.current()
    shown = [v for v in versions if v in versions[-LISTED:] or v.name == served]
    if older := len(versions) - len(shown):
        yield f"  {counted(older, 'older version')}"
    rolled_back = read_history(folder).rolled_back
    yield from (_version_line(v, is_rolled_back=v.name in rolled_back) for v in shown)
    if any(v.metrics.get("test") for v in shown):
        yield "  test images have no say in anything: versions are only measured on them"


def _version_line(version: Version, *, is_rolled_back: bool) -> str:
    ap = version.metrics.get("mask_ap")
    shown = "no validation images" if ap is None else f"mask AP {ap:.3f}"
    test = version.metrics.get("test") or {}
    shown += _test_in_words(test)
    verdict = "promoted" if version.promoted else "refused"
    verdict += " and rolled back since" * is_rolled_back
    how = _training_in_words(version) + left_out_in_words(version.metrics.get(LEFT_OUT, {}))
    how += left_out_in_words(test.get(LEFT_OUT, {}), "test")
    return f"  {version.name}: {shown}, {verdict}, {version.reason}{how}"


def _test_in_words(test: Mapping[str, Any]) -> str:
    """What a version reached on test images; nothing without any that count."""
    if not test.get("images"):
        return ""
    images = counted(test["images"], "test image")
    ap = test.get("mask_ap")
    return f", nothing to find on {images}" if ap is None else f", mask AP {ap:.3f} on {images}"


def _training_in_words(version: Version) -> str:
    """How a version was trained, as it was chosen."""
    training = version.metrics.get("training", {})
    if "steps" not in training:
        return ""
    words = [
        f"trained {training['steps']} of {training['iterations']} steps of {training['batch_size']} images",
        f"{training['optimizer']}, learning rate {training['learning_rate']:.2g}, {training['learning_policy']}",
        f"rare classes {training['repeat_factor_smallest_class']:.1f} times",
    ]
    if size := version.config.get("image_size"):
        words.append(f"at {size[0]} to {size[1]} px")
    if anchors := version.config.get("anchor_sizes"):
        words.append(f"anchors of {anchors[0]:g} to {anchors[-1]:g} px")
    if note := training.get("note"):
        words.append(note)
    return "; " + ", ".join(words)


def _round_line(current: Round) -> str:
    state = current.state
    is_so = f"has {state.state}" if state.state == FAILED else f"is {state.state}"
    return f"  round {state.number} {is_so}" + (f", last error: {state.error}" if state.error else "")


def _job_lines(folder: ProjectFolder, redis: Redis | None) -> Iterator[str]:
    job = round_job(redis, folder.uid) if redis is not None else None
    if job is not None and job["job_status"] in ("queued", "started"):
        progress = job["progress"] or {"step": "waiting", "percent": 0}
        yield f"  job {job['job_status']}: {_in_words(progress)}"


def _in_words(progress: Mapping[str, Any]) -> str:
    """A job's progress as a line, with what is known of it."""
    words = [f"{progress['step']} {progress['percent']} %"]
    if progress.get("seconds_left"):
        words.append(f"about {max(1, round(progress['seconds_left'] / 60))} min left")
    if progress.get("loss") is not None:
        words.append(f"loss {progress['loss']:.3f}")
    if progress.get("mask_ap") is not None:
        words.append(f"mask AP {progress['mask_ap']:.3f}")
    return ", ".join(words)
