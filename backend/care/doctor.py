"""`maskal doctor`: every link between Label Studio and this backend, checked in turn, each with its mend."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis

from backend.errors import BackendError, WrongToken
from backend.label_studio.answers import plain
from backend.label_studio.client import TITLE, LabelStudio, Project
from backend.label_studio.images import Images
from backend.label_studio.labels import LabelConfig, parse_label_config
from backend.label_studio.tabs import NEXT, is_queue, tabs
from backend.project.credentials import BASIC_USER, SECRET_HEADER, Credentials, fingerprint, load_credentials
from backend.project.folder import ProjectFolder, connected_projects
from backend.project.workplace import open_workplace
from backend.queue.connection import open_redis, redis_address
from backend.queue.jobs import ROUNDS, SHORT, has_worker
from backend.queue.marks import address_of_worker, data_of_worker, last_event
from backend.rounds.learning import device_in_words
from backend.rounds.reading import read_snapshot_of
from backend.settings import Settings
from model.errors import ModelError

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"

DELIVERY_TIMEOUT_S = 5.0
ENOUGH_SCORED = 0.99
EXAMPLES = 3
"""Tasks of several that are named."""

TRIED = ("1.20.0", "1.22.0", "1.23.2")
"""Releases of Label Studio with which the end-to-end tests were run."""

RIGHTS = ("projects.change", "tasks.view", "predictions.any", "webhooks.change")
BLOCKED = "reserved network address"
"""What Label Studio says of an address that one of its two switches blocks."""


@dataclass(frozen=True)
class Finding:
    """What one check found: its name, OK, WARNING, FAILED or SKIPPED, and one line with the mend if there is one."""

    check: str
    state: str
    message: str


class Doubt(BackendError):
    """A check found something that works, but not as well as it could."""


class Fault(BackendError):
    """A check found a broken link."""


@dataclass
class Case:
    """One project under examination; what several checks need is asked once, when first needed."""

    settings: Settings
    project_id: int
    done: dict[str, Finding] = field(default_factory=dict)

    @cached_property
    def credentials(self) -> Credentials:
        """What this machine's DATA_DIR and environment hold."""
        return load_credentials(self.settings)

    @cached_property
    def client(self) -> LabelStudio:
        """Label Studio, with few attempts: a doctor does not wait."""
        public_url = self.credentials.label_studio_public_url
        return LabelStudio(*self.credentials.require_label_studio(), public_url=public_url, timeout_s=10, attempts=2)

    @cached_property
    def project(self) -> Project:
        """The project as Label Studio has it."""
        return self.client.project(self.project_id)

    @cached_property
    def labels(self) -> LabelConfig:
        """Its labelling config."""
        return parse_label_config(self.project.label_config)

    @cached_property
    def folder(self) -> ProjectFolder:
        """Its folder under DATA_DIR."""
        same_number = [f for f in connected_projects(self.settings.data_dir) if f.project_id == self.project_id]
        folder = next((f for f in same_number if f.uid == self.project.uid), None)
        if folder is None:
            other = f"; {same_number[-1].uid} of another Label Studio is, and stays as it is" if same_number else ""
            raise Fault(f"project {self.project.uid} is not connected here{other}; {self.mend}")
        return folder

    @cached_property
    def redis(self) -> Redis:
        """The queue's Redis."""
        return open_redis(self.settings)

    @cached_property
    def address(self) -> str:
        """This project's address at the backend, as Label Studio calls it."""
        backends = self.client.backends(self.project_id)
        own = [b["url"] for b in backends if b["title"] == TITLE or b["basic_auth_user"] == BASIC_USER]
        if not own:
            raise Fault(f"Label Studio lists no ML backend {TITLE!r} for project {self.project_id}; {self.mend}")
        return str(own[0]).rstrip("/")

    @property
    def mend(self) -> str:
        """What mends most links."""
        return f"run `maskal connect --project {self.project_id}`"


def examine(settings: Settings, project_id: int, without: Collection[str] = ()) -> Iterator[Finding]:
    """Make all checks of CHECKS in order, `without` some; those that need a broken link are skipped.

    No other check may need one that is left out.
    """
    case = Case(settings, project_id)
    for name, needed, check in CHECKS:
        if name in without:
            continue
        broken = [other for other in needed if case.done[other].state in (FAILED, SKIPPED)]
        finding = Finding(name, SKIPPED, f"needs {', '.join(broken)}") if broken else _make(name, check, case)
        case.done[name] = finding
        yield finding


def _make(name: str, check: Callable[[Case], str], case: Case) -> Finding:
    try:
        return Finding(name, OK, check(case))
    except Doubt as err:
        return Finding(name, WARNING, str(err))
    except (BackendError, ModelError) as err:
        return Finding(name, FAILED, str(err))


def _server(case: Case) -> str:
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


def _token(case: Case) -> str:
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


def _project(case: Case) -> str:
    return f"{case.project.title!r}, uid {case.project.uid}, {case.project.counters[0]} tasks"


def _public_address(case: Case) -> str:
    """By which name the tasks may call Label Studio, and where that is fetched."""
    addresses = case.client.addresses(case.project_id)
    if not addresses.public:
        return f"none told (LABEL_STUDIO_HOST), so only {addresses.reached} is taken for Label Studio's own"
    return f"{addresses.public}, fetched at {addresses.reached}"


def _label_config(case: Case) -> str:
    controls = ", ".join(control.tag for control in case.labels.controls)
    told = f"{controls} on {case.labels.image_value.text}, labels {', '.join(case.labels.classes)}"
    if case.labels.remarks:
        raise Doubt("; ".join((told, *case.labels.remarks)))
    return told


def _annotations(case: Case) -> str:
    """Read as a round does, but for the images."""
    place = open_workplace(case.settings, case.folder, case.project)
    now, _ = read_snapshot_of(place)
    if now.left_out:
        examples = "; ".join(f"task {one.task}: {one.reasons[0]}" for one in now.left_out[-EXAMPLES:])
        raise Doubt(
            f"{len(now.left_out)} annotated tasks do not count, as not all of their regions can be read: {examples}"
        )
    return f"{len(now.entries)} annotated tasks can be learned from"


def _connected(case: Case) -> str:
    return f"{case.folder.path}"


def _registered(case: Case) -> str:
    return case.address


def _reachable(case: Case) -> str:
    """From Label Studio's side: it is offered a backend with a wrong password, which it tries and refuses to store."""
    answer = case.client.offer_backend(case.project_id, case.address)
    if BLOCKED in answer:
        raise Fault(
            f"Label Studio blocks the backend's private address {case.address}; start it with ML_BLOCK_LOCAL_IP=false"
        )
    if "401" not in answer.replace(case.address, ""):  # whose port may be that
        raise Fault(
            f"Label Studio cannot reach the backend at {case.address} ({answer}); start `maskal serve` there, open the "
            "firewall, or connect with another --backend-url"
        )
    return "Label Studio reaches it"


def _backend(case: Case) -> str:
    address = case.address
    (row,) = [b for b in case.client.backends(case.project_id) if b["url"].rstrip("/") == address][:1]
    if row["state"] != "CO":
        reason = plain(row["error_message"] or "no reason")
        raise Fault(
            f"Label Studio calls the backend {row['readable_state'].lower()} ({reason}); "
            f"{case.mend}; if that does not help, `maskal serve` uses another DATA_DIR than this command"
        )
    if row["title"] != TITLE:
        raise Fault(f"the backend's title should be {TITLE!r} and no version, got {row['title']!r}; {case.mend}")
    if case.labels.has_smart_tool and not row["is_interactive"]:
        raise Doubt(
            f"the labelling config has a smart tool, but what is drawn with it is not sent to the backend; {case.mend}"
        )
    return f"connected, says it serves {row['model_version']}"


def _webhook(case: Case) -> str:
    address = f"{case.address}/webhook"
    hooks = [hook for hook in case.client.webhooks(case.project_id) if hook["url"].rstrip("/") == address]
    if not hooks:
        raise Fault(
            f"Label Studio has no webhook to {address}, so submissions are only noticed once a minute; {case.mend}"
        )
    hook = hooks[0]
    if not hook["is_active"] or not (hook["send_for_all_actions"] or hook["actions"]):
        raise Fault(f"the webhook to {address} is switched off; {case.mend}")
    if hook["headers"].get(SECRET_HEADER) != case.credentials.webhook_secret:
        raise Fault(f"the webhook to {address} carries a wrong {SECRET_HEADER}, so its calls are refused; {case.mend}")
    return address


def _webhook_switch(case: Case) -> str:
    answer = case.client.offer_webhook(case.project_id, f"{case.address}/webhook")
    if BLOCKED in answer:
        raise Fault(
            f"Label Studio blocks webhooks to {case.address}; start it with SSRF_PROTECTION_ENABLED=false, "
            f"then {case.mend}"
        )
    return "SSRF_PROTECTION_ENABLED lets it pass"


def _delivery(case: Case) -> str:
    """Label Studio is made to send an event, by a change of the project that changes nothing."""
    before = last_event(case.redis, case.folder.uid)
    case.client.update_project(case.project_id, show_collab_predictions=case.project.options["show_collab_predictions"])
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S
    while time.monotonic() < deadline:
        now = last_event(case.redis, case.folder.uid)
        if now is not None and now != before:
            return "an event arrived just now"
        time.sleep(0.1)
    last = "never" if before is None else f"{(time.time() - before) / 60:.0f} minutes ago"
    raise Fault(
        f"an event that Label Studio was made to send did not arrive within {DELIVERY_TIMEOUT_S:.0f} s (last one: "
        f"{last}); see the log of `maskal serve`, and give it the same REDIS_URL as this command"
    )


def _version(case: Case) -> str:
    served, shown = case.folder.registry.current(), case.project.model_version
    if served is None:
        raise Doubt("no version yet; the first round starts by itself, `maskal status` tells what is missing")
    if shown != served:
        raise Fault(f"the project follows {shown!r}, served is {served}: its queue is random; {case.mend}")
    return f"the queue follows {served}"


def _sampling(case: Case) -> str:
    sampling = case.project.options["sampling"]
    if sampling != "Uncertainty sampling":
        raise Fault(f"the project's sampling is {sampling!r}, so the queue ignores the scores; {case.mend}")
    return sampling


def _overlap(case: Case) -> str:
    options = case.project.options
    if options["maximum_annotations"] > 1:
        raise Doubt(
            f"each task wants {options['maximum_annotations']} annotations, and Label Studio serves those in progress "
            "at random first; set maximum_annotations to 1 in the project's settings"
        )
    if options["show_overlap_first"]:
        raise Doubt("tasks with overlap are shown first, before the scores count; switch show_overlap_first off")
    return "one annotation a task"


def _pre_labels(case: Case) -> str:
    options = case.project.options
    if not options["show_collab_predictions"]:
        raise Doubt("annotators do not see the pre-labels (show_collab_predictions is off); " + case.mend)
    if options["reveal_preannotations_interactively"]:
        raise Doubt("pre-labels show only where the annotator drags a box; switch 'reveal pre-annotations' off")
    return "shown to annotators"


def _tab(case: Case) -> str:
    tab = tabs(case.client, case.project_id).get(case.folder.tab() or 0)
    if tab is None:
        raise Doubt(f"the Data Manager has no tab that shows the queue; {case.mend}")
    title = str(tab.get("title"))
    if not is_queue(tab):
        raise Doubt(
            f"the tab {title!r} has another order or filter than the queue, and who labels from it gets that; "
            f"{case.mend}"
        )
    return title if title == NEXT else f"{title!r}, made as {NEXT!r}"


def _scores(case: Case) -> str:
    served = case.folder.registry.current()
    if served is None:
        raise Doubt("no version has scored yet")
    open_tasks, scored = case.client.count_open(case.project_id), case.client.count_open(case.project_id, served)
    told = f"{scored} of {open_tasks} open tasks hold a score of {served}"
    if scored < ENOUGH_SCORED * open_tasks:
        raise Doubt(f"{told}; the worker scores the rest, `maskal status` lists images that cannot be read")
    return told


def _image(case: Case) -> str:
    task = case.client.any_task(case.project_id)
    if task is None:
        raise Doubt("the project has no task yet; import images")
    with TemporaryDirectory() as empty:  # the cache of DATA_DIR would hide that the image can no longer be fetched
        settings = replace(case.settings, data_dir=Path(empty))
        images = Images(case.client, settings, case.project.image_login, case.project_id)
        image = images.load(case.labels.image_value.of(task.data), task.id)
    return f"task {task.id}: {image.shape[1]} x {image.shape[0]} px"


def _redis(case: Case) -> str:
    case.redis.ping()
    return redis_address(case.settings)


def _workers(case: Case) -> str:
    missing = [queue for queue in (ROUNDS, SHORT) if not has_worker(case.redis, queue)]
    if missing:
        raise Fault(
            f"no worker looks after the queue{'s' * (len(missing) > 1)} {' and '.join(missing)}; start `maskal worker`"
        )
    theirs = data_of_worker(case.redis)
    if theirs is None:
        raise Fault("the workers' clock does not tick; start `maskal worker` again")
    if theirs != fingerprint(case.credentials):
        raise Fault("the worker uses another DATA_DIR than this command; give all of them the same one")
    address = address_of_worker(case.redis)
    own = f", with the LABEL_STUDIO_URL={address} of the worker's environment" if address else ""
    return f"both queues are looked after{own}"


def _device(case: Case) -> str:
    return device_in_words(case.folder.config().device)


CHECKS: tuple[tuple[str, tuple[str, ...], Callable[[Case], str]], ...] = (
    ("server", (), _server),
    ("token", ("server",), _token),
    ("project", ("token",), _project),
    ("public address", ("project",), _public_address),
    ("labelling config", ("project",), _label_config),
    ("connected", ("project",), _connected),
    ("ML backend", ("connected",), _registered),
    ("backend reachable", ("ML backend",), _reachable),
    ("backend state", ("backend reachable", "labelling config"), _backend),
    ("webhook switch", ("ML backend",), _webhook_switch),
    ("webhook", ("ML backend",), _webhook),
    ("redis", (), _redis),
    ("webhook delivery", ("webhook", "webhook switch", "backend reachable", "redis"), _delivery),
    ("version", ("connected",), _version),
    ("sampling", ("project",), _sampling),
    ("overlap", ("project",), _overlap),
    ("pre-labels", ("project",), _pre_labels),
    ("tab", ("connected",), _tab),
    ("scores", ("connected",), _scores),
    ("annotations", ("labelling config", "connected"), _annotations),
    ("image", ("labelling config",), _image),
    ("worker", ("redis",), _workers),
    ("device", ("connected",), _device),
)
"""Each check's name, those that must have passed before it, and what it does."""
