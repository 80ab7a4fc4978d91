"""Tasks with predictions as one JSON file, as Label Studio's own import takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from backend.label_studio.addresses import image_address
from backend.label_studio.labels import LabelConfig, parse_label_config, polygon_config
from backend.label_studio.predictions import outlines_to_regions
from model.files import write_atomically, write_json
from model.formats.table import Output
from model.records import Record

FILE_NAME = "labelstudio.json"
CONFIG_NAME = "labelstudio_config.xml"

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""


def label_studio_output(image_root_url: str, version: str) -> Output:
    """Tasks whose image addresses begin with `image_root_url`, and predictions of that version."""
    return Output(
        title="Label Studio tasks",
        write=partial(write, image_root_url=image_root_url, version=version),
        annotation_path=lambda image: FILE_NAME,
        is_one_file=True,
    )


def write(
    records: Iterable[Record], folder: Path, classes: Sequence[str], *, image_root_url: str, version: str
) -> None:
    """Write labelstudio.json, and beside it a labelling config that has the classes as polygon labels."""
    xml = polygon_config(classes)
    config = parse_label_config(xml)
    tasks = [_task(record, config, image_root_url, version) for record in records]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG_NAME, xml + "\n")
    write_json(folder / FILE_NAME, tasks, indent=None)


def _task(record: Record, config: LabelConfig, image_root_url: str, version: str) -> dict[str, object]:
    prediction = {"model_version": version, "result": outlines_to_regions(record.outlines, record.size_hw, config)}
    address = image_address(image_root_url, record.image)
    return {"data": config.image_value.data_with(address), "predictions": [prediction]}
