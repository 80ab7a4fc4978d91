"""`maskal demo`: the whole system with a ready project, for a person to try or, headless, to check itself."""

from __future__ import annotations

import hashlib
import logging
import shlex
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from backend.care.connect import Connection, connect, page_address
from backend.demo.annotator import Annotator
from backend.demo.data import DemoData, DemoImage, coco_data, generated_data, import_images
from backend.demo.round_bar import RoundBar
from backend.demo.stack import Stack, start_stack, write_shell_settings
from backend.errors import BadSetting, BrokenPromise, NotFound
from backend.label_studio.client import Project
from backend.label_studio.labels import parse_label_config
from backend.project.config import PRESETS, ProjectConfig, read_config
from backend.project.credentials import BASIC_USER, load_credentials
from backend.project.folder import ProjectFolder, find_folder
from backend.queue.connection import open_redis
from backend.queue.jobs import round_job
from backend.rounds.folder import all_rounds, ended_rounds, last_concluded
from backend.settings import Settings
from backend.system.folder_lock import alone_in
from backend.system.processes import Processes
from model.files import read_json, write_json

logger = logging.getLogger(__name__)

INITIAL = 30
POOL = 5
LEAST_IMAGES = 4
FIRST_ROUND_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class DemoOptions:
    """The options of `maskal demo`; ports of None are chosen (headless) or Label Studio's 8080 and our 9090."""

    headless: bool = False
    rounds: int = 2
    images: Path | None = None
    annotations: Path | None = None
    limit: int | None = None
    report: Path | None = None
    config: Path | None = None
    engine: str | None = None
    folder: Path | None = None
    port: int | None = None
    backend_port: int | None = None


def demo(settings: Settings, options: DemoOptions) -> int:
    """Run a demo and return the exit code: 0 done or stopped by the user, 1 a broken promise or a check cut short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with _folder(options) as folder, Processes() as processes:
            return (_check_itself if options.headless else _show)(settings, options, folder, processes)
    except KeyboardInterrupt:
        click.echo("\nstopped; everything is kept" if not options.headless else "\nstopped")
        return 1 if options.headless else 0


@contextmanager
def _folder(options: DemoOptions) -> Iterator[Path]:
    """The folder that holds all of a demo: the given one, a temporary one if headless, else `.demo`."""
    if options.folder is None and options.headless:
        with tempfile.TemporaryDirectory(prefix="maskal-demo-") as temporary:
            yield Path(temporary)
    else:
        folder = (options.folder or Path(".demo")).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        mend = "stop it with Ctrl-C there, or give this one a --folder of its own"
        with alone_in(folder, f"another demo runs in {folder}; {mend}"):
            yield folder


def _data(options: DemoOptions, settings: Settings) -> DemoData:
    """What is shown; BadSetting if that is too few images: a headless demo needs two before each round and after."""
    if options.images is None or options.annotations is None:
        data = generated_data(options.limit)
    else:
        data = coco_data(options.images, options.annotations, options.limit, settings.max_image_megapixels)
    least = 2 * (options.rounds + 1) if options.headless else LEAST_IMAGES
    if len(data.images) < least:
        for_rounds = f" for {options.rounds} rounds" if options.headless else ""
        raise BadSetting(f"the demo needs at least {least} images{for_rounds}, got {len(data.images)}; add some")
    return data


def _config(options: DemoOptions, initial: int, pool: int | list[int]) -> ProjectConfig:
    """The user's settings, with the demo's where they say nothing."""
    given = read_config(options.config) if options.config is not None else ProjectConfig()
    own: dict[str, Any] = {"initial_datasize": initial, "pool_size": pool}
    if options.images is None and given.network_config == "nano":
        own["pretrained_weights"] = "none"  # not those of a network that knows such fields already
    said = given.model_fields_set | PRESETS[given.preset].keys()
    unset = {name: value for name, value in own.items() if name not in said}
    chosen = {} if options.engine is None else {"engine": options.engine}
    return ProjectConfig.model_validate({**given.model_dump(exclude_unset=True), **unset, **chosen})


def _make_project(
    stack: Stack, data: DemoData, config: ProjectConfig, annotated: int, note: Path | None = None
) -> tuple[Project, dict[int, DemoImage]]:
    """A connected project with those images as tasks; the note tells of it, and whether it is whole."""
    client = stack.client()
    project = client.create_project(data.title, data.label_config)
    if note is not None:
        write_json(note, {"id": project.id, "is_whole": False})
    labels = parse_label_config(data.label_config)
    imported = import_images(client, project.id, data.images, labels, annotated)
    tasks = dict(tqdm(imported, total=len(data.images), desc="importing images", unit="image"))
    connect(stack.settings, Connection(project.id, stack.label_studio_url, stack.login.token, config=config))
    if note is not None:
        write_json(note, {"id": project.id, "is_whole": True})
    return project, tasks


def _check_itself(settings: Settings, options: DemoOptions, folder: Path, processes: Processes) -> int:
    _config(options, INITIAL, POOL)  # what is wrong with it or with the images is told before anything is started
    data = _data(options, settings)
    stack = start_stack(
        processes, settings, folder, port=options.port, backend_port=options.backend_port, tell=logger.info
    )
    report = play(stack, options, data, processes.check)
    if not report["ok"]:
        click.echo(f"maskal: broken promise: {report['error']}; logs in {folder / 'logs'}", err=True)
    if options.report is not None:
        write_json(options.report, report)
    click.echo(f"{'ok' if report['ok'] else 'NOT ok'}: {len(report['rounds'])} rounds in {report['seconds']} s")
    return 0 if report["ok"] else 1


def play(stack: Stack, options: DemoOptions, data: DemoData, check: Callable[[], None]) -> dict[str, Any]:
    """Play the annotator on a running system for some rounds and return the report."""
    started = time.monotonic()
    share = len(data.images) // (options.rounds + 1)
    config = _config(options, min(INITIAL, share), min(INITIAL, share))
    project, tasks = _make_project(stack, data, config, annotated=0)
    home = find_folder(stack.settings.data_dir, project.id, project.uid)
    annotator = Annotator(stack.client(), home, parse_label_config(data.label_config), tasks)
    try:
        annotator.play(options.rounds, config.initial_datasize, config.pool_size_after, check)
        report = annotator.report()
    except BrokenPromise as err:
        report = {"ok": False, "error": str(err), "rounds": [asdict(r) for r in annotator.reports]}
    return {**report, "seconds": round(time.monotonic() - started, 1)}


def _show(settings: Settings, options: DemoOptions, folder: Path, processes: Processes) -> int:
    note = project_note(folder, options)
    _config(options, INITIAL, POOL)  # what is wrong with it or with the images is told before anything is started
    data = None if note.exists() else _data(options, settings)
    stack = start_stack(
        processes,
        settings,
        folder,
        port=options.port or 8080,
        backend_port=options.backend_port or 9090,
        tell=click.echo,
    )
    project = open_project(stack, options, note, data)
    home = find_folder(stack.settings.data_dir, project.id, project.uid)
    shell_settings = write_shell_settings(stack.settings, folder)
    _await_first_version(stack, home, processes)
    click.echo(
        f"\nReady: {stack.label_studio_url}/projects/{project.id}\n"
        f"  log in as {stack.login.email} with password {stack.login.password}\n"
        f"  then press Label All Tasks; each image comes pre-labelled, the least certain first.\n"
        f"  Submit {home.config().pool_size_after(ended_rounds(home))} tasks and the model retrains by itself.\n"
        f"  What it has learned: {page_address(stack.settings, project.id)}\n"
        f"  user {BASIC_USER}, password {load_credentials(stack.settings).basic_password}\n"
        f"  For maskal's commands in another terminal: . {shlex.quote(str(shell_settings))}\n"
        f"  and then for example: maskal status --project {project.id}\n"
        f"  Ctrl-C stops everything; the next start goes on from here (delete {folder} to begin anew)."
    )
    while True:
        processes.check()
        time.sleep(1)


def project_note(folder: Path, options: DemoOptions) -> Path:
    """The file that says which project holds these images; each set of own images has one beside the generated ones."""
    if options.images is None or options.annotations is None:
        return folder / "project.json"
    names = f"{options.images.resolve()}\n{options.annotations.resolve()}"
    return folder / f"project_{hashlib.sha256(names.encode()).hexdigest()[:12]}.json"


def open_project(stack: Stack, options: DemoOptions, note: Path, data: DemoData | None = None) -> Project:
    """The project that the note tells of, or a new one where there is none or its start was stopped half-way."""
    project = _known_project(stack, options, note)
    if project is None:
        data = data or _data(options, stack.settings)
        annotated = min(INITIAL, len(data.images) // 2)
        project, _ = _make_project(stack, data, _config(options, annotated, POOL), annotated, note)
    return project


def _known_project(stack: Stack, options: DemoOptions, note: Path) -> Project | None:
    """The project of an earlier start, connected again as ports and settings may differ; None if there is none.

    One that lacks images, as its start was stopped, is deleted.
    """
    if not note.exists():
        return None
    known = read_json(note)
    project_id, config = int(known["id"]), None
    try:
        if not known.get("is_whole", True):
            stack.client().delete_project(project_id)
            return None
        if options.config is not None or options.engine is not None:
            stored = find_folder(stack.settings.data_dir, project_id).config()
            config = _config(options, stored.initial_datasize, stored.pool_size)
        return connect(stack.settings, Connection(project_id, stack.label_studio_url, stack.login.token, config=config))
    except NotFound:
        return None


def has_version(home: ProjectFolder) -> bool:
    """Whether a version is served and its round is over; later ones may be under way."""
    return home.registry.current() is not None and last_concluded(home) is not None


def _await_first_version(stack: Stack, home: ProjectFolder, processes: Processes) -> None:
    """Show the first round's progress until a version is published; nothing where one was before."""
    if has_version(home):
        return
    redis = open_redis(stack.settings)
    started = time.monotonic()
    with RoundBar() as bar:
        while not has_version(home):
            processes.check()
            for r in all_rounds(home):
                if r.state.error is not None:
                    raise BrokenPromise(f"the first round stopped: {r.state.error}")
            elapsed_s = time.monotonic() - started
            if elapsed_s > FIRST_ROUND_TIMEOUT_S:
                raise BrokenPromise(f"no first version after {FIRST_ROUND_TIMEOUT_S:.0f} s; see the logs")
            bar.show((round_job(redis, home.uid) or {}).get("progress"), elapsed_s)
            time.sleep(1)
