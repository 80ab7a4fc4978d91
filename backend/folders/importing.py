"""`maskal import`: annotated images of another tool become tasks of a Label Studio project."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from tqdm import tqdm

from backend.errors import BadLabelConfig, BadSetting, LabelStudioError
from backend.folders.label_spelling import other_spelling, twins
from backend.label_studio.addresses import image_address
from backend.label_studio.client import UPLOAD_BYTES, UPLOAD_FILES, LabelStudio, Project
from backend.label_studio.labels import LabelConfig, parse_label_config, polygon_config
from backend.label_studio.parts import in_parts
from backend.label_studio.predictions import outlines_to_regions
from backend.project.workplace import open_client
from backend.settings import Settings
from model.errors import BadImageFile
from model.formats import coco
from model.formats.images import image_file
from model.formats.table import FORMATS
from model.image_files import Depths, decode_checked
from model.record_images import named, with_repeats
from model.records import Record

logger = logging.getLogger(__name__)

SOURCE, DIGEST = "imported_from", "imported_sha256"
"""Keys of a task's data that tell the file that its image was, by which a repeated import knows it."""

IMPORTED = "imported"
"""Version of imported predictions."""

TITLE_LENGTH = 3, 50
"""Characters that Label Studio wants of a project's title."""

TASKS_AT_ONCE = 1000
"""Of tasks whose images are not uploaded; each call costs the server a count of the project."""


@dataclass(frozen=True)
class ImportOptions:
    """The options of `maskal import`.

    source          folder (or one file) of the annotations
    images          folder that their image names count from; None: the source's own
    project_id      project to import into, or None with `create_project`, the title of a new one
    iscrowd_masks   of COCO, RLE masks with iscrowd=1 are objects, as some tools mark every mask
    empty_is_done   images without objects are annotated as holding none; else they are tasks still to be done
    image_root_url  what the images' addresses begin with where Label Studio has them already; None: they are uploaded

    An image with an object that cannot be read is never annotated: what can be read of it is a prediction.
    """

    format: str
    source: Path
    images: Path | None = None
    project_id: int | None = None
    create_project: str | None = None
    as_predictions: bool = False
    iscrowd_masks: bool = False
    empty_is_done: bool = False
    image_root_url: str | None = None
    url: str | None = None
    api_key: str | None = None


@dataclass(frozen=True)
class Imported:
    """What came of an import: the project, how many tasks were made and were there already, and the problems."""

    project: Project
    made: int
    before: int
    problems: tuple[str, ...]


def import_records(settings: Settings, options: ImportOptions) -> Imported:
    """Make a task of each image that is not there yet, so that a stopped import goes on where it was.

    Raises BadSetting, BadLabelConfig (it names the labels that the project lacks) or LabelStudioError.
    """
    if (options.project_id is None) == (options.create_project is None):
        raise BadSetting("give either --project or --create-project")
    shortest, longest = TITLE_LENGTH
    if options.create_project is not None and not shortest <= len(options.create_project.strip()) <= longest:
        raise BadSetting(
            f"a project's title has {shortest} to {longest} characters, got {options.create_project!r}; choose another"
        )
    problems: list[str] = []
    records = _records(options, problems)
    client = open_client(settings, options.url, options.api_key)
    project = _project(client, options, records, problems)
    tasks = _Tasks(client, project, options, settings, problems)
    if options.create_project is not None:
        problems += twins(tasks.labels)
    for record in tqdm(records, desc="importing", unit="image"):
        try:
            tasks.add(record)
        except BadImageFile as err:
            problems.append(str(err))
    tasks.send()
    if warning := tasks.depths.warning:
        problems.append(warning)
    return Imported(project, tasks.made, tasks.before, tuple(problems))


def _records(options: ImportOptions, problems: list[str]) -> list[Record]:
    """What the annotations say; BadSetting if no image of theirs is there."""
    read = partial(coco.read_records, iscrowd_masks=True) if options.iscrowd_masks else FORMATS[options.format].read
    records = with_repeats(list(read(options.source, problems.append, options.images)))
    if not any(_is_there(options, record) for record in records):
        reasons = "; ".join(problems) or "check --from and --images"
        raise BadSetting(f"{options.source} holds no {FORMATS[options.format].title} whose images are there: {reasons}")
    return records


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A record that becomes a task: its image's file (empty where it is not uploaded), and the hash of that."""

    record: Record
    content: bytes
    digest: str


class _Tasks:
    """Makes tasks of records whose images the project does not have yet, many a call."""

    def __init__(
        self, client: LabelStudio, project: Project, options: ImportOptions, settings: Settings, problems: list[str]
    ) -> None:
        self.client, self.project, self.options, self.settings = client, project, options, settings
        self.problems = problems
        self.depths = Depths()
        self.labels = parse_label_config(project.label_config)
        there = (task.data for task in client.tasks(project.id))
        self.known = {(data.get(SOURCE), data[DIGEST]) for data in there if DIGEST in data}
        self.seen: set[str] = set()
        self.waiting: list[_Waiting] = []
        self.made, self.before = 0, 0

    def add(self, record: Record) -> None:
        """Make a task of a record now or with later ones, unless it is there; BadImageFile if there cannot be one."""
        content = _image(self.options, record, self.settings, self.depths)
        digest = hashlib.sha256(content).hexdigest()[:16]
        if record.image in self.seen:
            raise BadImageFile(f"{record.image} is annotated twice; the first one counts, delete one")
        self.seen.add(record.image)
        if (record.image, digest) in self.known:
            self.before += 1
            return
        is_uploaded = self.options.image_root_url is None
        size, most = sum(len(other.content) for other in self.waiting), UPLOAD_FILES if is_uploaded else TASKS_AT_ONCE
        if len(self.waiting) == most or (is_uploaded and size + len(content) > UPLOAD_BYTES):
            self.send()
        self.waiting.append(_Waiting(record, content if is_uploaded else b"", digest))

    def send(self) -> None:
        """Make the tasks that wait; what Label Studio refuses of them becomes a problem each."""
        waiting, self.waiting = self.waiting, []
        tasks = []
        for one, address in zip(waiting, self._addresses(waiting), strict=True):
            if isinstance(address, LabelStudioError):
                self.problems.append(f"{one.record.image} is not taken by Label Studio ({address}){_mend(address)}")
                continue
            data = {**self.labels.image_value.data_with(address), SOURCE: one.record.image, DIGEST: one.digest}
            tasks.append({"data": data, **_shown(one.record, self.labels, self.options, self.problems)})
        answers = in_parts(lambda part: self.client.import_tasks(self.project.id, part), tasks)
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, LabelStudioError):
                self.problems.append(f"{task['data'][SOURCE]} becomes no task, Label Studio refuses it: {answer}")
            else:
                self.made += 1

    def _addresses(self, waiting: Sequence[_Waiting]) -> Sequence[str | LabelStudioError]:
        """Where Label Studio has each image; for one that it does not take, why."""
        if self.options.image_root_url is not None:
            return [image_address(self.options.image_root_url, one.record.image) for one in waiting]
        files = [(PurePosixPath(one.record.image).name, one.content) for one in waiting]
        return in_parts(lambda part: self.client.upload_images(self.project.id, part), files)


def _project(
    client: LabelStudio, options: ImportOptions, records: Sequence[Record], problems: Sequence[str]
) -> Project:
    """The project to import into; BadLabelConfig if it lacks a label."""
    names = tuple(dict.fromkeys(outline.label for record in records for outline in record.outlines))
    if options.create_project is not None:
        if not names:
            reasons = f" that can be read ({named(problems)})" if problems else ""
            raise BadSetting(
                f"{options.source} holds no object{reasons}, so no label for a new project; give --project"
            )
        if taken := client.projects_named(options.create_project):
            raise BadSetting(
                f"project {taken[0]} has the title {options.create_project!r} already; go on with "
                f"--project {taken[0]}, or choose another title"
            )
        project = client.create_project(options.create_project, polygon_config(names))
        logger.info("made project %d, %s", project.id, project.title)
        return project
    project = client.project(int(options.project_id or 0))
    labels = parse_label_config(project.label_config)
    _require_one_key(project)
    missing = [name for name in names if labels.label_for(name) is None]
    if missing:
        raise BadLabelConfig(
            f"the labelling config of project {project.id} lacks {', '.join(map(repr, missing))}"
            f"{other_spelling(missing, labels)}; add the labels there, or make a project that has them with "
            "--create-project TITLE"
        )
    return project


def _require_one_key(project: Project) -> None:
    """BadSetting if the project shows more than an image: Label Studio then takes neither files nor such tasks."""
    elements = list(ElementTree.fromstring(project.label_config).iter())
    shown = [str(e.get("value")) for e in elements if e.get("name") and not e.get("toName")]
    keys = list(dict.fromkeys(value for value in shown if value.startswith("$")))
    if len(keys) > 1:
        raise BadSetting(
            f"the labelling config of project {project.id} shows {' and '.join(keys)}, and an import has only images; "
            "Label Studio takes no task without the others, nor any file into such a project: import into a project "
            "that shows the image alone (--create-project TITLE makes one)"
        )


def _mend(err: LabelStudioError) -> str:
    """What helps against the refusal of a file."""
    return "; convert it to PNG or JPEG" if "extension" in str(err) else ""


def _shown(record: Record, labels: LabelConfig, options: ImportOptions, problems: list[str]) -> dict[str, Any]:
    """What the task shows of a record; what it cannot show as it is becomes a problem."""
    named = [replace(o, label=labels.label_for(o.label) or o.label) for o in record.outlines]
    is_whole = not record.unread
    for outline in named:
        control = labels.control_for(outline.label)
        if control is not None and control.tag == "RectangleLabels":
            problems.append(f"{record.image}: a {outline.label!r} becomes a box, the project has no polygons for it")
        if not outlines_to_regions([outline], record.size_hw, labels):
            problems.append(f"{record.image}: a {outline.label!r} covers no pixel of the image and is left out")
            is_whole = False
    if not is_whole and not options.as_predictions:
        rest = "what can is a prediction to be corrected" if named else "it is still to be annotated"
        problems.append(f"{record.image}: not all of its annotation can be read; {rest}")
    if options.as_predictions or (named and not is_whole):
        regions = outlines_to_regions(named, record.size_hw, labels)
        return {"predictions": [{"model_version": IMPORTED, "result": regions}]}
    if not named and not (options.empty_is_done and is_whole):
        return {}
    drawn = [replace(outline, score=None) for outline in named]
    return {"annotations": [{"result": outlines_to_regions(drawn, record.size_hw, labels)}]}


def _is_there(options: ImportOptions, record: Record) -> bool:
    form = FORMATS[options.format]
    root = form.root(options.source)
    is_file = image_file(record.image, root, options.images).is_file()
    return is_file or form.embedded_image(root, record.image) is not None


def _image(options: ImportOptions, record: Record, settings: Settings, depths: Depths) -> bytes:
    """The image file of a record; BadImageFile if it is missing, broken, or of another size than the record says."""
    form = FORMATS[options.format]
    root = form.root(options.source)
    path = image_file(record.image, root, options.images)
    try:
        content = path.read_bytes()
    except OSError as err:
        embedded = form.embedded_image(root, record.image)
        if embedded is None:
            reason = f"{path} cannot be read ({err.strerror})"
            raise BadImageFile(f"{reason}; give the folder of the images with --images") from err
        content = embedded
    if len(content) > settings.max_image_mb * 1e6:
        raise BadImageFile(f"{path} is larger than {settings.max_image_mb:g} MB; make it smaller or raise MAX_IMAGE_MB")
    decode_checked(content, str(path), record.size_hw, settings.max_image_megapixels, depths)
    return content
