"""`maskal import`: annotated images of another tool become tasks of a Label Studio project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from backend.client import LabelStudio, Project
from backend.errors import BadLabelConfig, BadSetting
from backend.labels import LabelConfig, parse_label_config, polygon_config
from backend.predictions import outlines_to_regions
from backend.settings import Settings
from backend.workplace import open_client
from model.errors import BadImageFile
from model.formats import coco
from model.formats.table import FORMATS
from model.image_files import decode_image
from model.records import Record

SOURCE = "source"
"""Key of a task's data that names the image it was made of, by which a repeated import knows it."""

IMPORTED = "imported"
"""Version of imported predictions."""

TASKS_AT_ONCE = 10


@dataclass(frozen=True)
class ImportOptions:
    """The options of `maskal import`.

    source          folder (or one file) of the annotations
    images          folder that their image names count from; None: the source's own
    project_id      project to import into, or None with `create_project`, the title of a new one
    iscrowd_masks   of COCO, RLE masks with iscrowd=1 are objects, as some tools mark every mask
    empty_is_done   images without objects are annotated as holding none; else they are tasks still to be done
    """

    format: str
    source: Path
    images: Path | None = None
    project_id: int | None = None
    create_project: str | None = None
    as_predictions: bool = False
    iscrowd_masks: bool = False
    empty_is_done: bool = False
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
    problems: list[str] = []
    read = partial(coco.read_records, iscrowd_masks=True) if options.iscrowd_masks else FORMATS[options.format].read
    records = list(read(options.source, problems.append))
    if not records:
        reasons = "; ".join(problems) or "check --from"
        raise BadSetting(f"{options.source} holds no {FORMATS[options.format].title} with an image: {reasons}")
    client = open_client(settings, options.url, options.api_key)
    project = _project(client, options, records)
    place = _Place(client, project, parse_label_config(project.label_config), settings.max_image_megapixels)
    known = {task.data.get(SOURCE) for task in client.tasks(project.id)}
    waiting = [record for record in records if record.image not in known]
    made = 0
    with tqdm(desc="importing", unit="image", total=len(records), initial=len(records) - len(waiting)) as bar:
        tasks = _tasks(place, options, waiting, problems)
        while some := list(islice(tasks, TASKS_AT_ONCE)):
            client.import_tasks(project.id, some)
            made += len(some)
            bar.update(len(some))
    return Imported(project, made, len(records) - len(waiting), tuple(problems))


def _project(client: LabelStudio, options: ImportOptions, records: Sequence[Record]) -> Project:
    """The project to import into; BadLabelConfig if it lacks a label."""
    names = tuple(dict.fromkeys(outline.label for record in records for outline in record.outlines))
    if options.create_project is not None:
        if not names:
            raise BadSetting(f"{options.source} holds no object, so no label for a new project; give --project")
        return client.create_project(options.create_project, polygon_config(names))
    project = client.project(int(options.project_id or 0))
    labels = parse_label_config(project.label_config)
    missing = [name for name in names if labels.label_for(name) is None]
    if missing:
        raise BadLabelConfig(
            f"the labelling config of project {project.id} lacks {', '.join(map(repr, missing))}; add the labels "
            "there, or make a project that has them with --create-project TITLE"
        )
    return project


@dataclass(frozen=True)
class _Place:
    """Where the tasks go."""

    client: LabelStudio
    project: Project
    labels: LabelConfig
    max_megapixels: float


def _tasks(
    place: _Place, options: ImportOptions, records: Sequence[Record], problems: list[str]
) -> Iterator[dict[str, Any]]:
    """A task for each record whose image can be read, the image uploaded."""
    for record in records:
        try:
            content = _image(options, record, place.max_megapixels)
        except BadImageFile as err:
            problems.append(str(err))
            continue
        address = place.client.upload_image(place.project.id, Path(record.image).name, content)
        data = {place.labels.image_key: address, SOURCE: record.image}
        yield {"data": data, **_shown(record, place.labels, options)}


def _shown(record: Record, labels: LabelConfig, options: ImportOptions) -> dict[str, Any]:
    """What the task shows of a record."""
    named = [replace(o, label=labels.label_for(o.label) or o.label) for o in record.outlines]
    if options.as_predictions:
        regions = outlines_to_regions(named, record.size_hw, labels)
        return {"predictions": [{"model_version": IMPORTED, "result": regions}]}
    if not named and not options.empty_is_done:
        return {}
    drawn = [replace(outline, score=None) for outline in named]
    return {"annotations": [{"result": outlines_to_regions(drawn, record.size_hw, labels)}]}


def _image(options: ImportOptions, record: Record, max_megapixels: float) -> bytes:
    """The image file of a record; BadImageFile if it is missing, broken, or of another size than the record says."""
    form = FORMATS[options.format]
    root = form.root(options.source)
    path = (options.images or root) / record.image
    try:
        content = path.read_bytes()
    except OSError as err:
        embedded = form.embedded_image(root, record.image)
        if embedded is None:
            reason = f"{path} cannot be read ({err.strerror})"
            raise BadImageFile(f"{reason}; give the folder of the images with --images") from err
        content = embedded
    height, width = decode_image(content, str(path), max_megapixels).shape[:2]
    if (height, width) != record.size_hw:
        raise BadImageFile(
            f"{path} is {width} x {height} px, its annotations are for {record.size_hw[1]} x {record.size_hw[0]}; "
            "it is left out: use the image that was annotated"
        )
    return content
