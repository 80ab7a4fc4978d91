"""`maskal disconnect`: take a project out of this backend's care, and this backend out of the project."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

from redis import Redis

from backend.errors import BadSetting, LabelStudioError, NotFound
from backend.label_studio.client import TITLE, LabelStudio, Project
from backend.label_studio.instruction import without_link
from backend.label_studio.tabs import find_like, remove_tab
from backend.project.credentials import BASIC_USER, SECRET_HEADER, forget_label_studio
from backend.project.folder import ProjectFolder, connected_projects
from backend.project.workplace import find_project, open_client
from backend.queue.connection import require_writable
from backend.queue.jobs import EXAMINE, RUN_ROUND
from backend.queue.locks import held
from backend.settings import Settings

KINDS = (RUN_ROUND, EXAMINE)
"""The jobs that work on a project."""

MADE_THERE = ("backend", "webhook", "tab", "link to the page")
"""What `connect` makes in a project of Label Studio."""

WAIT_S = 30.0
"""A look at a project, which holds its lock, takes seconds."""


def disconnect(
    settings: Settings,
    redis: Redis | None,
    folder: ProjectFolder,
    *,
    is_deleted: bool = False,
    is_here_only: bool = False,
) -> str:
    """Remove backend, webhook and tab from a project, and leave it alone from then on; says what was done.

    With `is_here_only` Label Studio, which may be gone for good, is not asked, and what it holds of us stays there.

    Its tasks, annotations and predictions stay as they are, and so do its versions unless `is_deleted`. With the last
    project the address and key of Label Studio are forgotten. `redis` is None where it is down, and then no worker
    runs. Raises BadSetting while a worker is at the project, QueueUnavailable where Redis takes no data, and
    LabelStudioError where Label Studio cannot be asked.
    """
    if redis is not None:
        require_writable(redis)
    with ExitStack() as stack:
        locks = [held(redis, kind.lock_for(folder.uid), wait_s=WAIT_S) for kind in KINDS] if redis else []
        for lock in locks:
            if not stack.enter_context(lock):
                raise BadSetting(
                    f"a worker is at project {folder.project_id}; wait for it, or "
                    f"`maskal cancel --project {folder.project_id}`, and disconnect then"
                )
        removed = [] if is_here_only else _removed(settings, folder)
        folder.disconnect()
        if is_deleted:
            shutil.rmtree(folder.path)
    if not connected_projects(settings.data_dir):
        forget_label_studio(settings)
        removed.append("the stored address and key of Label Studio, as no project is left")
    kept = "its versions were deleted" if is_deleted else f"its versions are kept in {folder.path}"
    left = f"; Label Studio was not asked: what is there of {', '.join(MADE_THERE)} stays" if is_here_only else ""
    told = ", ".join(removed) or ("nothing" if is_here_only else "nothing was left")
    return f"project {folder.project_id} is disconnected; removed: {told}; {kept}{left}"


def _removed(settings: Settings, folder: ProjectFolder) -> list[str]:
    """What was taken away in Label Studio; an error also says what to do where that is gone for good."""
    try:
        return _remove_from_label_studio(settings, folder)
    except (LabelStudioError, BadSetting) as err:
        only_here = f"`maskal disconnect --project {folder.project_id} --here-only`"
        raise type(err)(f"{err}; if that Label Studio is gone for good: {only_here}") from err


def _remove_from_label_studio(settings: Settings, folder: ProjectFolder) -> list[str]:
    """Take away what `connect` made there; what it was. A project that is gone has nothing of it."""
    client = open_client(settings)
    try:
        project = find_project(settings, folder)
    except NotFound:
        return []
    alike = find_like(client, project.id)
    views = [view for view in (folder.tab(), alike[0] if alike else None) if view is not None]
    counts = (
        _remove_backends(client, project.id),
        _remove_webhooks(client, project.id),
        sum(remove_tab(client, view) for view in views),
        _remove_link(client, project),
    )
    return [name for name, count in zip(MADE_THERE, counts, strict=True) if count]


def _remove_backends(client: LabelStudio, project_id: int) -> int:
    own = [b for b in client.backends(project_id) if b["title"] == TITLE or b["basic_auth_user"] == BASIC_USER]
    for row in own:
        client.delete_backend(row["id"])
    return len(own)


def _remove_webhooks(client: LabelStudio, project_id: int) -> int:
    own = [hook for hook in client.webhooks(project_id) if SECRET_HEADER in hook["headers"]]
    for hook in own:
        client.delete_webhook(hook["id"])
    return len(own)


def _remove_link(client: LabelStudio, project: Project) -> int:
    own = without_link(project.instruction)
    if own != project.instruction:
        client.update_project(project.id, expert_instruction=own)
    return int(own != project.instruction)
