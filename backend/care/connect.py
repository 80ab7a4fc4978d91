"""Connecting this backend to a Label Studio project, and everything that the loop needs there."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from backend.errors import BadSetting, LabelStudioBusy, LabelStudioError, QueueUnavailable
from backend.folders.importing import DIGEST, SOURCE
from backend.label_studio.answers import refuses_password
from backend.label_studio.client import TITLE, Backend, LabelStudio, Project
from backend.label_studio.instruction import with_link, without_link
from backend.label_studio.labels import parse_label_config
from backend.label_studio.tabs import NEXT, provide_next
from backend.project.config import ProjectConfig, read_config
from backend.project.credentials import BASIC_USER, SECRET_HEADER, Credentials, load_credentials, store_label_studio
from backend.project.folder import ProjectFolder, connect_folder, connected_projects
from backend.queue.connection import open_redis
from backend.queue.jobs import hint
from backend.queue.marks import address_of_worker
from backend.rounds import task_queue
from backend.rounds.starts import check_start
from backend.settings import Settings, read_address, read_key

logger = logging.getLogger(__name__)

SWITCHES = (
    "check that the backend runs and that Label Studio can reach it (in a container 127.0.0.1 and localhost are the "
    "container: give HOST=0.0.0.0 to `maskal serve`, and this machine's address as --backend-url); for a private "
    "address Label Studio must be started with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, and its host "
    "name needs a dot in it"
)


OTHER_PASSWORD = (
    "it is reached but refuses the password: the `maskal serve` there has another DATA_DIR (or MASKAL_BASIC_PASSWORD) "
    "than this command; give both the same"
)


@dataclass(frozen=True)
class Connection:
    """What `connect` was asked for; what is None comes from the environment or from the last time.

    label_studio_public_url  Label Studio as its users' browsers call it, where it does not say so itself
    is_hosted    label-studio-ml's server answers at `backend_url`, at one address for all projects
    ask_key      asks somebody for the API key if there is none; None if there is nobody
    """

    project_id: int
    label_studio_url: str | None = None
    api_key: str | None = None
    backend_url: str | None = None
    label_studio_public_url: str | None = None
    config: Path | ProjectConfig | None = None
    is_hosted: bool = False
    ask_key: Callable[[], str] | None = None


def connect(settings: Settings, wanted: Connection) -> Project:
    """Add this backend to a project, or mend what is there; safe to repeat.

    Checks the key, the labelling config and the weights first, so that nothing is changed if they are wrong.
    """
    client = _client(settings, wanted)
    client.whoami()
    project = client.project(wanted.project_id)
    address = _backend_address(client, settings, wanted, project)
    labels = parse_label_config(project.label_config)
    for remark in labels.remarks:
        logger.warning("project %d: %s", project.id, remark)
    config = read_config(wanted.config) if isinstance(wanted.config, Path) else wanted.config
    if config is not None:
        check_start(config.pretrained_weights, config.network_config, config.engine, labels.classes)
        for remark in config.remarks(labels.classes):
            logger.warning("settings: %s", remark)
    credentials = store_label_studio(settings, client.url, client.auth.api_key, client.public_url)
    folder = connect_folder(settings.data_dir, project.uid)
    _leave_others(folder)
    if config is not None:
        folder.store_config(config)
    _add_backend(client, Backend(project.id, address, BASIC_USER, credentials.basic_password, labels.has_smart_tool))
    _secure_webhook(client, project.id, f"{address}/webhook", credentials, is_hosted=wanted.is_hosted)
    client.update_project(project.id, sampling="Uncertainty sampling", show_collab_predictions=True)
    _provide_tab(client, folder)
    _link_page(client, project, settings, is_hosted=wanted.is_hosted)
    task_queue.publish(client, folder.registry, client.project(project.id))
    _hint(settings, project.uid, client.url)
    logger.info("project %d is connected, labels %s", project.id, ", ".join(labels.classes))
    return client.project(project.id)


def _leave_others(folder: ProjectFolder) -> None:
    """Look no longer after other databases' projects of this number, by which pages and events name a project."""
    for other in connected_projects(folder.data_dir):
        if other.project_id == folder.project_id and other.uid != folder.uid:
            other.disconnect()
            logger.warning(
                "project %s is of another Label Studio or an earlier database and no longer looked after; %s is kept, "
                "and `maskal connect` there goes on with it",
                other.uid,
                other.path,
            )


def _client(settings: Settings, wanted: Connection) -> LabelStudio:
    """The Label Studio that is asked for, else that of the environment, else that of the last time."""
    known = load_credentials(settings)
    url = read_address(wanted.label_studio_url, "--url") if wanted.label_studio_url else known.label_studio_url
    key = read_key(wanted.api_key, "--api-key") if wanted.api_key else known.label_studio_api_key
    if url and not key and wanted.ask_key is not None:
        key = read_key(wanted.ask_key(), "the API key")
    if not url or not key:
        raise BadSetting(
            "the address and an API key of Label Studio are needed: --url, and LABEL_STUDIO_API_KEY or --api-key"
        )
    public = settings.label_studio_public_url or (
        known.label_studio_public_url if url == known.label_studio_url else None
    )
    if wanted.label_studio_public_url:
        public = read_address(wanted.label_studio_public_url, "--public-url")
    if settings.label_studio_url not in (None, url):
        logger.warning(
            "LABEL_STUDIO_URL=%s in this environment wins over --url %s for every other command and process with it; "
            "unset it or correct it",
            settings.label_studio_url,
            url,
        )
    return LabelStudio(url, key, public_url=public, attempts=2)


def _backend_address(client: LabelStudio, settings: Settings, wanted: Connection, project: Project) -> str:
    """The backend's address for a project: as asked for, else as it was connected last, else where it listens here."""
    below = "" if wanted.is_hosted else f"/p/{project.id}"
    if wanted.backend_url:
        return read_address(wanted.backend_url, "--backend-url") + below
    if settings.backend_url:
        return settings.backend_url + below
    if below and ProjectFolder(settings.data_dir / "projects" / project.uid).is_connected:
        listed = (str(row["url"]).rstrip("/") for row in client.backends(project.id) if row["title"] == TITLE)
        known = next((url for url in listed if url.endswith(below)), None)
        if known is not None and urlsplit(known).hostname != settings.host:  # on which PORT may be another one now
            return known
    return f"http://{settings.host}:{settings.port}{below}"


def _hint(settings: Settings, uid: str, url: str) -> None:
    """Let the workers look at the project, and say so if they look for it in another Label Studio."""
    try:
        redis = open_redis(settings)
        hint(redis, uid)
        theirs = address_of_worker(redis)
    except (QueueUnavailable, RedisError) as err:
        logger.warning("%s; the first round starts once a worker runs", err)
        return
    if theirs not in (None, url):
        logger.warning(
            "the running worker has LABEL_STUDIO_URL=%s in its environment, which wins over %s; unless both are the "
            "same server, unset it there and start the worker and `maskal serve` again",
            theirs,
            url,
        )


def _add_backend(client: LabelStudio, backend: Backend) -> None:
    listed = client.backends(backend.project_id)
    existing = [row for row in listed if row["title"] == TITLE or row["url"].rstrip("/") == backend.url]
    try:
        if existing:
            client.update_backend(existing[0]["id"], backend)
        else:
            client.add_backend(backend)
    except LabelStudioError as err:
        mend = OTHER_PASSWORD if refuses_password(str(err), backend.url) else SWITCHES
        raise LabelStudioError(f"Label Studio does not take the backend {backend.url}: {err}; {mend}") from err


def _secure_webhook(
    client: LabelStudio, project_id: int, address: str, credentials: Credentials, *, is_hosted: bool
) -> None:
    """Give the webhook that Label Studio made its secret, make it where it did not, remove those of old addresses."""
    basic = b64encode(f"{BASIC_USER}:{credentials.basic_password}".encode()).decode()
    headers = {SECRET_HEADER: credentials.webhook_secret}
    if is_hosted:
        headers["Authorization"] = f"Basic {basic}"  # all that label-studio-ml's server takes
    hooks = client.webhooks(project_id)
    at_address = [hook for hook in hooks if hook["url"].rstrip("/") == address]
    outdated = [hook for hook in hooks if SECRET_HEADER in hook["headers"] and hook not in at_address]
    try:
        if at_address:
            client.update_webhook(
                at_address[0]["id"], headers=headers, is_active=True, send_payload=True, send_for_all_actions=True
            )
        else:
            client.add_webhook(project_id, address, headers)
        for hook in (*at_address[1:], *outdated):
            client.delete_webhook(hook["id"])
    except LabelStudioError as err:
        raise LabelStudioError(f"Label Studio does not take the webhook {address}: {err}; {SWITCHES}") from err


def _provide_tab(client: LabelStudio, folder: ProjectFolder) -> None:
    """Make or mend the Data Manager's tab of the queue, without which all else works."""
    try:
        folder.store_tab(provide_next(client, folder.project_id, folder.tab(), (SOURCE, DIGEST)))
    except LabelStudioBusy:
        raise
    except LabelStudioError as err:
        logger.warning("the tab %r could not be made, the queue works without it: %s", NEXT, err)


def page_address(settings: Settings, project_id: int) -> str:
    """A project's page, as browsers reach it."""
    return f"{settings.public_url or f'http://{settings.host}:{settings.port}'}/p/{project_id}/"


def _link_page(client: LabelStudio, project: Project, settings: Settings, *, is_hosted: bool) -> None:
    """Tell annotators where the page is, where browsers reach it; label-studio-ml's server has none."""
    wanted = project.instruction
    if is_hosted:
        wanted = without_link(wanted)
    elif settings.public_url:
        wanted = with_link(wanted, page_address(settings, project.id))
    if wanted != project.instruction:
        client.update_project(project.id, expert_instruction=wanted)
