"""What a demo shows: generated broccoli, or somebody's own images with COCO annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import cv2
from tqdm import tqdm

from backend.generated.broccoli import LABELS, generate
from backend.label_studio.client import UPLOAD_BYTES, LabelStudio
from backend.label_studio.labels import LabelConfig, polygon_config
from backend.label_studio.predictions import outlines_to_regions
from backend.settings import Settings
from model.formats import coco
from model.geometry import mask_to_polygons
from model.record_images import RecordImages, fully_read
from model.records import Outline, Record

GENERATED_IMAGES = 120
SEED = 7

UPLOADED_AT_ONCE = 20
"""Images a call: enough to be quick, few enough that a bar moves."""


@dataclass(frozen=True, eq=False)
class DemoImage:
    """An image file and what is true of it."""

    name: str
    content: bytes
    truth: Record


@dataclass(frozen=True, eq=False)
class DemoData:
    """Images with their truth, and the labels that occur."""

    title: str
    labels: tuple[str, ...]
    images: tuple[DemoImage, ...]

    @property
    def label_config(self) -> str:
        """A labelling config for those labels."""
        return polygon_config(self.labels)


def generated_data(limit: int | None) -> DemoData:
    """Fields of broccoli-like heads in five imbalanced classes, the same ones every time."""
    images = []
    for index, made in enumerate(generate(limit or GENERATED_IMAGES, SEED, (512, 512))):
        outlines = tuple(
            Outline(label, mask_to_polygons(mask)) for label, mask in zip(made.labels, made.masks, strict=True)
        )
        content = cv2.imencode(".jpg", cv2.cvtColor(made.image, cv2.COLOR_RGB2BGR))[1].tobytes()
        name = f"field_{index:04d}.jpg"
        images.append(DemoImage(name, content, Record(name, made.image.shape[:2], outlines)))
    return DemoData("Broccoli (maskal demo)", tuple(LABELS), tuple(images))


def coco_data(
    folder: Path, annotations: Path, limit: int | None, max_megapixels: float = Settings.max_image_megapixels
) -> DemoData:
    """The first `limit` images of a COCO file, read from a folder, without those whose annotation is read in part.

    Raises BadRecord that names the images which are missing, broken or of another size than the file says.
    """
    records = fully_read(coco.read(annotations, images=folder))[:limit]
    files = RecordImages(folder, max_megapixels)
    files.check(tqdm(records, desc="looking at the images", unit="image"))
    images = tuple(DemoImage(Path(record.image).name, files.content(record), record) for record in records)
    return DemoData(f"{annotations.stem[:40]} (maskal demo)", coco.class_names(annotations), images)


def import_images(
    client: LabelStudio, project_id: int, images: Sequence[DemoImage], labels: LabelConfig, annotated: int
) -> Iterator[tuple[int, DemoImage]]:
    """Upload images as tasks, the first `annotated` ones with their truth as annotation; yields (task id, image)."""
    begin = 0
    while begin < len(images):
        some = _first_call(images[begin:])
        addresses = client.upload_images(project_id, [(image.name, image.content) for image in some])
        tasks: list[dict[str, object]] = [{"data": labels.image_value.data_with(address)} for address in addresses]
        for task, image in zip(tasks, some[: max(0, annotated - begin)], strict=False):
            task["annotations"] = [{"result": true_regions(image, labels)}]
        yield from zip(client.import_tasks(project_id, tasks), some, strict=True)
        begin += len(some)


def _first_call(images: Sequence[DemoImage]) -> Sequence[DemoImage]:
    """As many of the images, from the first on, as one call may carry."""
    sizes = list(accumulate(len(image.content) for image in images[:UPLOADED_AT_ONCE]))
    return images[: max(1, sum(size <= UPLOAD_BYTES for size in sizes))]


def true_regions(image: DemoImage, labels: LabelConfig) -> list[dict[str, object]]:
    """The truth as an annotator would submit it."""
    return outlines_to_regions(image.truth.outlines, image.truth.size_hw, labels)
