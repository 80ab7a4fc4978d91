"""What the doctor checks of Label Studio and of the project there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from backend.care.case import Case, Doubt, Fault
from backend.counted import counted
from backend.errors import WrongToken
from backend.label_studio.images import Images
from backend.project.workplace import open_workplace
from backend.rounds.reading import read_snapshot_of

EXAMPLES = 3
"""Tasks of several that are named."""

TRIED = ("1.20.0", "1.22.0", "1.23.2")
"""Releases of Label Studio with which the end-to-end tests were run."""

RIGHTS = ("projects.change", "tasks.view", "predictions.any", "webhooks.change")


def server(case: Case) -> str:
    """Whether it answers, and in a release that was tried."""
    version = case.client.version()
    told = f"Label Studio {version} at {case.client.url}"
    if not is_tried(version):
        raise Doubt(
            f"{told}; maskal-studio was tried with {', '.join(TRIED)}, so this one may do some things otherwise"
        )
    return told


def is_tried(version: str) -> bool:
    """Whether this release of Label Studio was tried, or another one with the same first two numbers."""
    return version.split(".")[:2] in [tried.split(".")[:2] for tried in TRIED]


def token(case: Case) -> str:
    """Whether it is taken, and may do what is needed."""
    kind = "personal access token" if case.client.auth.is_personal else "legacy token"
    try:
        user = case.client.whoami()
    except WrongToken as err:
        hint = (
            ""
            if case.client.auth.is_personal
            else (
                "; legacy tokens may be switched off in the organization's settings; a personal access token works too"
            )
        )
        raise Fault(
            f"the {kind} is refused; make a new one under Account & Settings and {case.mend} --api-key{hint}"
        ) from err
    missing = [right for right in RIGHTS if right not in user.get("permissions", RIGHTS)]
    if missing:
        raise Fault(f"the user of the {kind} lacks the rights {', '.join(missing)}; use the token of a manager")
    return f"{kind} of {user['email']}"


def project(case: Case) -> str:
    """Which one it is."""
    tasks = case.project.counters[0]
    return f"{case.project.title!r}, uid {case.project.uid}, {counted(tasks, 'task')}"


def public_address(case: Case) -> str:
    """By which name the tasks may call Label Studio, and where that is fetched."""
    addresses = case.client.addresses(case.project_id)
    if not addresses.public:
        return f"none told (LABEL_STUDIO_HOST), so only {addresses.reached} is taken for Label Studio's own"
    return f"{addresses.public}, fetched at {addresses.reached}"


def label_config(case: Case) -> str:
    """Whether its labels and shapes can be learned."""
    controls = ", ".join(control.tag for control in case.labels.controls)
    told = f"{controls} on {case.labels.image_value.text}, labels {', '.join(case.labels.classes)}"
    if case.labels.remarks:
        raise Doubt("; ".join((told, *case.labels.remarks)))
    return told


def learnable(case: Case) -> str:
    """Read as a round does, but for the images."""
    place = open_workplace(case.settings, case.folder, case.project)
    now, _ = read_snapshot_of(place)
    if now.left_out:
        examples = "; ".join(f"task {one.task}: {one.reasons[0]}" for one in now.left_out[-EXAMPLES:])
        raise Doubt(f"{now.left_out_in_words}: {examples}")
    return f"{counted(len(now.entries), 'annotated task')} can be learned from"


def image(case: Case) -> str:
    """Whether a task's image can be fetched."""
    task = case.client.any_task(case.project_id)
    if task is None:
        raise Doubt("the project has no task yet; import images")
    with TemporaryDirectory() as empty:  # the cache of DATA_DIR would hide that the image can no longer be fetched
        settings = replace(case.settings, data_dir=Path(empty))
        images = Images(case.client, settings, case.project.image_login, case.project_id)
        image = images.load(case.labels.image_value.of(task.data), task.id)
    return f"task {task.id}: {image.shape[1]} x {image.shape[0]} px"
