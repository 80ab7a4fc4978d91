"""The `maskal` command."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from backend.counted import counted
from backend.errors import BackendError
from backend.logs import set_up_logging, visible
from backend.settings import draw_bars_seldom, read_log_format, read_settings
from model.errors import ModelError
from model.files import TEMPORARY_PREFIX

ACTIONS = {
    "serve": ("backend.web.server", "serve"),
    "work": ("backend.workers.supervisor", "work"),
    "work_on": ("backend.workers.worker", "work_on"),
    "connect": ("backend.care.connect", "connect"),
    "disconnect": ("backend.care.disconnect", "disconnect"),
    "page_address": ("backend.care.connect", "page_address"),
    "connection": ("backend.care.connect", "Connection"),
    "open_redis": ("backend.queue.connection", "open_redis"),
    "status": ("backend.care.status", "describe"),
    "show_settings": ("backend.care.project_settings", "show"),
    "replace_settings": ("backend.care.project_settings", "replace"),
    "change_settings": ("backend.care.project_settings", "change"),
    "examine": ("backend.care.doctor", "examine"),
    "write_report": ("backend.web.report", "write_report"),
    "cancel": ("backend.care.cancel", "cancel"),
    "roll_back": ("backend.care.rollback", "roll_back"),
    "like": ("backend.care.like", "like"),
    "wish": ("backend.care.asked", "Wish"),
    "back_up": ("backend.care.backup", "back_up"),
    "restore": ("backend.care.restore", "restore"),
    "find_folder": ("backend.project.folder", "find_folder"),
    "auto_annotate": ("backend.folders.auto_annotate", "auto_annotate"),
    "auto_annotate_options": ("backend.folders.auto_annotate", "AutoAnnotateOptions"),
    "import_records": ("backend.folders.importing", "import_records"),
    "import_options": ("backend.folders.importing", "ImportOptions"),
    "export_records": ("backend.folders.exporting", "export_records"),
    "export_options": ("backend.folders.exporting", "ExportOptions"),
    "take_part": ("backend.rounds.group", "take_part"),
    "simulate": ("backend.simulation.run", "run"),
    "simulation_options": ("backend.simulation.options", "SimulationOptions"),
    "convert": ("model.engines.conversion", "convert"),
    "demo": ("backend.demo.run", "demo"),
    "demo_options": ("backend.demo.run", "DemoOptions"),
}
"""What the commands call; imported when called, so that `maskal --help` does not wait for torch."""


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
PORT = click.IntRange(1, 65535)

TOOLS = ("coco", "cvat", "darwin", "labelme", "labelme_xml", "supervisely", "yolo")
"""Keys of `model.formats.table.FORMATS`, which would wait for numpy and more."""


def _action(name: str) -> Callable[..., Any]:
    module, attribute = ACTIONS[name]
    action: Callable[..., Any] = getattr(import_module(module), attribute)
    return action


def _say(text: str, *, err: bool = False) -> None:
    click.echo(visible(text), err=err)


def _names(text: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _redis_if_up(settings: Any) -> Any:
    """The queue's Redis; None, and a line that says so, where it does not answer."""
    try:
        return _action("open_redis")(settings)
    except BackendError as err:
        _say(f"maskal: {err}", err=True)
        return None


class _OneLineErrors(click.Group):
    """Errors that are meant for the user end as one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BackendError, ModelError) as err:
            _say(f"maskal: {err}", err=True)
            sys.exit(1)
        except OSError as err:
            if err.filename is None:
                raise
            place = Path(err.filename)
            place = place.parent if place.name.startswith(TEMPORARY_PREFIX) else place  # nobody knows such a name
            mend = "make it" if isinstance(err, FileNotFoundError) else "check access rights and free space there"
            _say(f"maskal: {err.strerror}: {place}; {mend}", err=True)
            sys.exit(1)


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="maskal-studio")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(verbose: bool) -> None:
    """Active learning for instance segmentation inside Label Studio."""
    set_up_logging(read_log_format(), logging.DEBUG if verbose else logging.INFO)
    if not sys.stderr.isatty():
        draw_bars_seldom()


@main.command()
def serve() -> None:
    """Serve predictions to Label Studio (environment: HOST, PORT, DATA_DIR, REDIS_URL)."""
    _action("serve")(read_settings())


@main.command()
@click.option("--queue", type=click.Choice(["rounds", "short"]), help="Run one RQ worker on this queue only.")
def worker(queue: str | None) -> None:
    """Train, score and publish (environment: DATA_DIR, REDIS_URL)."""
    if queue is None:
        _action("work")(read_settings())
    else:
        _action("work_on")(read_settings(), queue)


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--url", "label_studio_url", help="Address of Label Studio, as this machine reaches it.")
@click.option("--api-key", help="API key, which `ps` shows  [default: LABEL_STUDIO_API_KEY, or it asks]")
@click.option("--backend-url", help="Address of `maskal serve`, as Label Studio reaches it.")
@click.option(
    "--public-url", "label_studio_public_url", help="Label Studio as browsers call it  [default: what it says itself]"
)
@click.option("--config", type=FILE, help="The project's settings (YAML).")
@click.option("--label-studio-ml", "is_hosted", is_flag=True, help="It is label-studio-ml's server that answers there.")
def connect(**options: Any) -> None:
    """Add this backend to a Label Studio project, or mend the connection."""
    wanted = _action("connection")(**options, ask_key=_ask_key if sys.stdin.isatty() else None)
    settings = read_settings()
    project = _action("connect")(settings, wanted)
    _say(f"Project {project.id} ({project.title}) is connected. Open it in Label Studio and label.")
    if not wanted.is_hosted:
        _say(f"Its page: {_action('page_address')(settings, project.id)}")


def _ask_key() -> str:
    return str(click.prompt("API key of Label Studio (under Account & Settings)", hide_input=True))


@main.command()
@click.option("--project", "project_id", type=int, help="Number of the Label Studio project  [default: all, in short]")
def status(project_id: int | None) -> None:
    """Show versions, rounds, jobs and unreadable images of the connected projects."""
    settings = read_settings()
    for line in _action("status")(settings, _redis_if_up(settings), project_id):
        _say(line)


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--set", "wanted", metavar="NAME=VALUE", multiple=True, help="One setting; NAME= takes it back.")
@click.argument("file", type=FILE, required=False)
def config(project_id: int, wanted: tuple[str, ...], file: Path | None) -> None:
    """Show a project's settings as YAML, change some (--set), or take those of FILE in place of all."""
    if wanted and file is not None:
        raise click.UsageError("either --set or a FILE, not both")
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    if wanted:
        shown = _action("change_settings")(settings, folder, wanted)
    else:
        shown = _action("replace_settings")(settings, folder, file) if file else _action("show_settings")(folder)
    for line in shown:
        _say(line)


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--delete", "is_deleted", is_flag=True, help="Its versions, rounds and settings here, too.")
@click.option("--here-only", "is_here_only", is_flag=True, help="Ask nothing of Label Studio, as it is gone for good.")
def disconnect(project_id: int, **options: bool) -> None:
    """Take backend, webhook, tab and link out of a project, and leave it alone; what it holds stays."""
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    _say(_action("disconnect")(settings, _redis_if_up(settings), folder, **options))


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
def cancel(project_id: int) -> None:
    """Cancel the round that is being trained; the next one waits for new annotations."""
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    _say(_action("cancel")(_action("open_redis")(settings), folder))


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--to", metavar="VERSION", help="Such as maskal-r3.  [default: what the served one was trained from]")
def rollback(project_id: int, to: str | None) -> None:
    """Serve an earlier version again: registry, Label Studio's version and the queue together."""
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    _say(_action("roll_back")(settings, _action("open_redis")(settings), folder, to))


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--task", type=int, help="Number of the task that shows what is looked for.")
@click.option("--region", help="One region of it, by its id  [default: all of its objects]")
@click.option("--label", help="Instead: the class that is looked for, by its annotated objects.")
@click.option("--count", type=click.IntRange(1, 100), default=20, show_default=True, help="Tasks to show.")
def like(project_id: int, task: int | None, region: str | None, label: str | None, count: int) -> None:
    """Find the open tasks whose objects are most like those of a task or a class, and show them in a tab."""
    if (task is None) == (label is None):
        raise click.UsageError("say what is looked for: either --task or --label")
    if region is not None and task is None:
        raise click.UsageError("--region belongs to --task")
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    for line in _action("like")(settings, folder, _action("wish")(task, region, label), count):
        _say(line)


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="An HTML file.")
def report(project_id: int, out: Path) -> None:
    """Write a project's page as one file to send: curve, classes, next images, mistakes, effort."""
    settings = read_settings()
    folder = _action("find_folder")(settings.data_dir, project_id)
    _say(_action("write_report")(settings, _redis_if_up(settings), folder, out))


@main.command()
@click.option("--out", type=NEW_FILE, required=True, help="File to write, such as leaf.tar.")
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--with-secrets", is_flag=True, help="API key and passwords, too.")
def backup(out: Path, project_id: int, with_secrets: bool) -> None:
    """Write a project's versions, rounds and settings to one file, also while a round runs."""
    folder = _action("find_folder")(read_settings().data_dir, project_id)
    _say(_action("back_up")(folder, out, with_secrets=with_secrets))


@main.command()
@click.argument("file", type=FILE)
def restore(file: Path) -> None:
    """Put a project back from the FILE of a backup, where DATA_DIR has none of its number."""
    _say(_action("restore")(read_settings(), file))


@main.command(hidden=True)
@click.argument("uid")
@click.argument("number", type=int)
def train_part(uid: str, number: int) -> None:
    """One process of a round's training on several GPUs; started by the worker."""
    _action("take_part")(read_settings(), uid, number)


@main.command()
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of lines.")
def doctor(project_id: int, as_json: bool) -> None:
    """Check every link between Label Studio and this backend, and say how to mend the broken ones."""
    findings = []
    for finding in _action("examine")(read_settings(), project_id):
        findings.append(finding)
        if not as_json:
            _say(f"{finding.state:8} {finding.check:18} {finding.message}")
    if as_json:
        _say(json.dumps([asdict(finding) for finding in findings], indent=2))
    sys.exit(1 if any(finding.state == "failed" for finding in findings) else 0)


@main.command()
@click.option("--images", type=FOLDER, required=True, help="Folder of images.")
@click.option(
    "--annotations",
    type=FILE,
    required=True,
    help="Their COCO annotations, all of them.",
)
@click.option("--out", type=NEW_FOLDER, required=True, help="Results; goes on if begun there.")
@click.option(
    "--strategies",
    default="random,random_foreground,class_turns,uncertainty,class_aware,diverse,stratified",
    show_default=True,
    help="Comma-separated; random is what the others are compared with.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Repetitions of everything.")
@click.option("--first-seed", type=click.IntRange(min=1), default=1, show_default=True, help="Number of the first.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds played side by side.")
@click.option("--initial", type=click.IntRange(min=1), help="Images to begin with  [default: initial_datasize]")
@click.option("--pool-size", type=click.IntRange(min=1), help="Images chosen in each loop  [default: pool_size]")
@click.option("--loops", type=click.IntRange(min=1), default=6, show_default=True, help="How often images are chosen.")
@click.option("--test-share", type=click.FloatRange(0.01, 0.9), default=0.3, show_default=True)
@click.option("--limit", type=click.IntRange(min=4), help="Use at most so many images.")
@click.option(
    "--judge",
    type=click.Choice(["network", "linear"]),
    default="network",
    show_default=True,
    help="What learns: the project's network, or within minutes a classifier of the annotated objects.",
)
@click.option("--redundant", type=click.IntRange(min=0), default=0, help="Add so many near copies of each photo.")
@click.option(
    "--near-copies",
    type=click.Choice(["last", "keep"]),
    help="Where near copies go, but for random  [default: as --config says, or last]",
)
@click.option("--imbalance", metavar="CLASS=SHARE", help="Leave out images until so many objects are of a class.")
@click.option("--config", type=FILE, help="Project settings (YAML).")
@click.option("--device", help="cpu, cuda or cuda:1  [default: a GPU if there is one]")
def simulate(strategies: str, **options: Any) -> None:
    """Compare strategies on images whose annotations are all known."""
    limit = read_settings().max_image_megapixels
    wanted = _action("simulation_options")(strategies=_names(strategies), max_image_megapixels=limit, **options)
    summary = _action("simulate")(wanted)
    _say(summary.read_text())
    _say(f"Curves: {summary.with_name('curves.png')}")


@main.command("auto-annotate")
@click.option("--img-dir", type=FOLDER, required=True, help="Folder of images, with its subfolders.")
@click.option("--weights", type=FILE, help="A checkpoint: .safetensors (of a version), .pth, .pt or .pkl.")
@click.option(
    "--version", help="Instead: a version of a connected project, such as maskal-r3  [default: the served one]"
)
@click.option("--project", "project_id", type=int, help="Number of that project  [default: the only one]")
@click.option("--network-config", help="Network of the weights, if they do not tell it.")
@click.option("--classes", default="", help="Comma-separated classes of the weights, if they do not tell them.")
@click.option(
    "--conf-thres", type=click.FloatRange(0, 1), help="An object's least score  [default: the project's, or 0.5]"
)
@click.option(
    "--nms-thres",
    type=click.FloatRange(0, 1),
    help="IoU above which two are the same  [default: the project's, or 0.2]",
)
@click.option("--export-format", type=click.Choice([*TOOLS, "labelstudio"]), required=True)
@click.option("--supervisely-meta-json", type=FILE, help="The meta.json of the Supervisely project to upload to.")
@click.option("--image-root-url", help="labelstudio: what image addresses begin with  [default: its local files]")
@click.option("--out", type=NEW_FOLDER, help="Where the annotations go  [default: beside the images]")
@click.option("--overwrite", is_flag=True, help="Annotate again what is annotated already.")
@click.option("--device", help="cpu, cuda or cuda:1  [default: a GPU if there is one]")
def auto_annotate(classes: str, **options: Any) -> None:
    """Outline a folder of images, in the format of an annotation tool; run it again to go on."""
    if options["supervisely_meta_json"] is not None and options["export_format"] != "supervisely":
        raise click.UsageError("--supervisely-meta-json belongs to --export-format supervisely")
    wanted = _action("auto_annotate_options")(classes=_names(classes), **options)
    done = _action("auto_annotate")(read_settings(), wanted)
    before = f", {done.before} had been before" if done.before else ""
    told = f"{counted(done.images, 'image')} outlined with {counted(done.objects, 'object')}{before}"
    _tell(told, done.problems, done.images + done.before)


@main.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--from", "format", type=click.Choice(TOOLS), required=True, help="The tool that made the annotations.")
@click.option("--images", type=FOLDER, help="Folder of the images  [default: that of the annotations]")
@click.option("--project", "project_id", type=int, help="Number of the Label Studio project.")
@click.option("--create-project", metavar="TITLE", help="Instead: a new project that has the labels.")
@click.option("--as-predictions", is_flag=True, help="As pre-labels to be corrected, not as annotations.")
@click.option("--iscrowd-masks", is_flag=True, help="coco: masks with iscrowd=1 are objects (some tools mark all so).")
@click.option("--image-root-url", help="Upload no image: what their addresses in Label Studio begin with.")
@click.option("--empty-is-done", is_flag=True, help="Images whose annotation holds no object are done.")
@click.option("--url", help="Address of Label Studio  [default: that of `maskal connect`]")
@click.option("--api-key", help="API key  [default: LABEL_STUDIO_API_KEY, or that of `maskal connect`]")
def import_(**options: Any) -> None:
    """Make tasks of images that were annotated elsewhere (SOURCE: folder or file); run it again to go on."""
    if options["iscrowd_masks"] and options["format"] != "coco":
        raise click.UsageError("--iscrowd-masks belongs to --from coco")
    done = _action("import_records")(read_settings(), _action("import_options")(**options))
    before = f", {done.before} were there already" if done.before else ""
    told = f"project {done.project.id} ({done.project.title}): {counted(done.made, 'task')} made{before}"
    _tell(told, done.problems, done.made + done.before)


@main.command()
@click.option("--to", "format", type=click.Choice(TOOLS), required=True, help="The tool that is to read them.")
@click.option("--project", "project_id", type=int, required=True, help="Number of the Label Studio project.")
@click.option("--out", type=NEW_FOLDER, required=True, help="A new or empty folder.")
@click.option("--predictions", is_flag=True, help="Those of the served version, not the annotations.")
@click.option("--supervisely-meta-json", type=FILE, help="The meta.json of the Supervisely project to upload to.")
@click.option("--url", help="Address of Label Studio  [default: that of `maskal connect`]")
@click.option("--api-key", help="API key  [default: LABEL_STUDIO_API_KEY, or that of `maskal connect`]")
def export(**options: Any) -> None:
    """Write a project's images and annotations for another tool."""
    if options["supervisely_meta_json"] is not None and options["format"] != "supervisely":
        raise click.UsageError("--supervisely-meta-json belongs to --to supervisely")
    done = _action("export_records")(read_settings(), _action("export_options")(**options))
    told = f"{counted(done.images, 'image')} with {counted(done.objects, 'object')} written to {options['out']}"
    _tell(told, done.problems, done.images)


def _tell(done: str, problems: Sequence[str], images: int) -> None:
    """The result, and each problem on a line of its own; exit code 1 if there are problems and no image at all."""
    count = f"; {counted(len(problems), 'problem')}:" if problems else ""
    _say(f"{done}{count}")
    for line in problems:
        _say(f"  {line}", err=True)
    if problems and not images:
        sys.exit(1)


@main.group()
def weights() -> None:
    """Weights of other programs."""


@weights.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--config", required=True, metavar="NAME", help="Detectron2's model-zoo name, or the path of a YAML config."
)
@click.option("--classes", help="Comma-separated, in the order they were trained in  [default: COCO's, if 80]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .safetensors file.")
def convert(source: Path, config: str, classes: str | None, out: Path) -> None:
    """Convert Detectron2's weights (.pth, .pkl), MaskAL's too, into a checkpoint for `pretrained_weights`."""
    names = None if classes is None else tuple(name.strip() for name in classes.split(",") if name.strip())
    done = _action("convert")(source, config, names, out)
    _say(
        f"{out}: {done.network}, {len(done.classes)} class{'es' * (len(done.classes) != 1)} ({', '.join(done.classes)})"
    )
    if done.is_backbone_alone:
        _say(f"{source} holds a backbone alone: all else in it is random and has to be trained.")


@main.command()
@click.option("--headless", is_flag=True, help="Play the annotator, check every promise, and end.")
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="Rounds of a headless demo.")
@click.option("--images", type=FOLDER, help="Folder of own images.")
@click.option("--annotations", type=FILE, help="Their COCO annotations.")
@click.option("--limit", type=click.IntRange(min=4), help="Use at most so many images.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a headless demo's report here.")
@click.option("--config", type=FILE, help="Project settings (YAML).")
@click.option("--engine", type=click.Choice(["torchvision", "detectron2"]), help="Instead of the settings' engine.")
@click.option(
    "--folder",
    type=NEW_FOLDER,
    help="Keep everything here  [default: .demo, or a temporary folder if headless]",
)
@click.option("--port", type=PORT, help="Port of Label Studio  [default: 8080, or a free one if headless]")
@click.option("--backend-port", type=PORT, help="Port of the backend  [default: 9090, or a free one if headless]")
def demo(**options: Any) -> None:
    """Start Label Studio, backend, worker and Redis with a ready project."""
    if (options["images"] is None) != (options["annotations"] is None):
        raise click.UsageError("--images and --annotations belong together")
    if options["report"] is not None and not options["headless"]:
        raise click.UsageError("a --report is written by a headless demo; add --headless")
    sys.exit(_action("demo")(read_settings(), _action("demo_options")(**options)))


if __name__ == "__main__":
    main()
