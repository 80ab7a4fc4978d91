"""`maskal export`: a project's annotations, or its served predictions, as a data set of another tool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from tqdm import tqdm

from backend.errors import BadImage, BadSetting
from backend.folders.importing import SOURCE
from backend.label_studio.annotations import Annotation, choose_annotation, read_outlines
from backend.label_studio.client import LabelStudio, Project, Task
from backend.label_studio.images import Images
from backend.label_studio.labels import LabelConfig, parse_label_config
from backend.project.workplace import open_client
from backend.rounds.first_queue import FIRST_VERSION
from backend.settings import Settings
from model.errors import BadImageFile, BadRecord
from model.files import write_atomically
from model.formats.images import UPLOAD_PREFIX
from model.formats.layout import is_plain
from model.formats.table import Output, format_for
from model.image_files import IMAGE_SUFFIXES, decode_image, suffix_of
from model.records import Record

NOT_IN_NAMES = re.compile(r"[^\w. ()+-]")

LONGEST_NAME = 200
"""Of an image, in bytes: file systems take 255, and the number of the task and tools' endings are added."""


@dataclass(frozen=True)
class ExportOptions:
    """The options of `maskal export`; `predictions`: those of the served version instead of the annotations."""

    format: str
    project_id: int
    out: Path
    predictions: bool = False
    supervisely_meta_json: Path | None = None
    url: str | None = None
    api_key: str | None = None


@dataclass(frozen=True)
class Exported:
    """What came of an export: how many images and objects were written, and what could not be."""

    images: int
    objects: int
    problems: list[str]


def export_records(settings: Settings, options: ExportOptions) -> Exported:
    """Write images and what is known of them into a folder that is new or empty.

    Raises BadSetting if it is not or there is nothing to export, BadLabelConfig, LabelStudioError, or BadRecord if the
    classes do not fit a given meta.json.
    """
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise BadSetting(f"{options.out} is not an empty folder; give another one with --out")
    client = open_client(settings, options.url, options.api_key)
    project = client.project(options.project_id)
    labels = parse_label_config(project.label_config)
    tasks = list(_predicted(client, project) if options.predictions else _annotated(client, project))
    if not tasks:
        what = "predictions of a served version" if options.predictions else "submitted annotations"
        raise BadSetting(f"project {project.id} holds no {what} yet; nothing was written")
    form = format_for(options.format, options.supervisely_meta_json)
    source = _Source(Images(client, settings, project.image_login, project.id), labels, with_scores=options.predictions)
    return _write(form, options.out, source, tqdm(tasks, desc="exporting", unit="image"))


def _annotated(client: LabelStudio, project: Project) -> Iterator[tuple[Task, Annotation]]:
    """Tasks with the one annotation that counts."""
    for task in client.annotated_tasks(project.id):
        if (chosen := choose_annotation(task.annotations)) is not None:
            yield task, chosen


def _predicted(client: LabelStudio, project: Project) -> Iterator[tuple[Task, Annotation]]:
    """Tasks with a prediction of the served version."""
    if project.model_version not in ("", FIRST_VERSION):  # before the first version nothing is predicted
        for task in client.predicted_tasks(project.id, project.model_version):
            yield task, task.predictions[-1]


@dataclass(frozen=True)
class _Source:
    """Where images come from, and what regions mean."""

    images: Images
    labels: LabelConfig
    with_scores: bool


def _write(form: Output, folder: Path, source: _Source, tasks: Iterable[tuple[Task, Annotation]]) -> Exported:
    """Write the tasks' records, and their images to where the tool looks for them."""
    classes, written, problems = source.labels.classes, [], []
    taken: set[str] = set()
    if not form.is_one_file:
        form.write((), folder, classes)  # what all images share, or what is wrong with it
    for task, annotation in tasks:
        try:
            content, size_hw = _image(source, task)
            outlines, left_out = read_outlines(annotation, source.labels, size_hw, with_scores=source.with_scores)
            left_out = (*_outdated(source, task, annotation), *left_out)
            if left_out:  # whoever trains on the export would learn that the object is background
                problems.append(f"task {task.id} is not exported: {'; '.join(left_out)}")
                continue
            record = Record(_name(form, task, source.labels, content, taken), size_hw, outlines)
            if not form.is_one_file:
                form.write((record,), folder, classes)
        except (BadImage, BadImageFile, BadRecord) as err:
            problems.append(str(err))
            continue
        target = folder / form.image_path(record.image)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
        taken |= _places(form, record.image)
        written.append(record)
    if form.is_one_file and written:
        form.write(written, folder, classes)
    return Exported(len(written), sum(len(record.outlines) for record in written), problems)


def _outdated(source: _Source, task: Task, annotation: Annotation) -> tuple[str, ...]:
    """Why what is exported may show an image that was there before; predictions go with the version that made them."""
    replacement = source.images.replaced(source.labels.image_value.of(task.data))
    return () if replacement is None or source.with_scores else replacement.reasons_against(annotation)


def _image(source: _Source, task: Task) -> tuple[bytes, tuple[int, int]]:
    """A task's image file and its upright (height, width)."""
    content = source.images.fetch(source.labels.image_value.of(task.data), task.id)
    limit = source.images.settings.max_image_megapixels
    height, width = decode_image(content, f"the image of task {task.id}", limit).shape[:2]
    return content, (height, width)


def _name(form: Output, task: Task, labels: LabelConfig, content: bytes, taken: set[str]) -> str:
    """The file name of an exported image: as it was imported, else the task's number and the end of its address.

    The number comes first too where the name would take the place of another image or of its annotations.
    """
    address = urlsplit(str(labels.image_value.of(task.data)))
    path = "" if address.scheme == "data" else parse_qs(address.query).get("d", [address.path])[0]
    last = UPLOAD_PREFIX.sub("", NOT_IN_NAMES.sub("_", unquote(path).rstrip("/").rpartition("/")[2]), count=1)
    own = PurePosixPath(last.strip().encode()[-LONGEST_NAME:].decode(errors="ignore"))
    source = PurePosixPath(str(task.data.get(SOURCE) or ""))
    is_below = not source.is_absolute() and ".." not in source.parts
    is_usable = is_below and is_plain(str(source)) and len(source.name.encode()) <= LONGEST_NAME
    if is_usable and source.suffix.lower() in IMAGE_SUFFIXES and not taken & _places(form, str(source)):
        return str(source)
    name = f"{task.id}-{own.name}" if own.name else f"{task.id}"
    name = name if own.suffix.lower() in IMAGE_SUFFIXES else f"{name}{suffix_of(content)}"
    while taken & _places(form, name):  # by what was exported once and imported under that name
        name = f"{task.id}-{name}"
    return name


def _places(form: Output, image: str) -> set[str]:
    """Where an image lies, and its annotations if they are in a file of their own."""
    return {form.image_path(image), *([] if form.is_one_file else [form.annotation_path(image)])}
