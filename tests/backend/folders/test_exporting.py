"""What `maskal export` writes; with the real Label Studio: tests/e2e/test_formats.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from backend.folders import exporting
from backend.folders.exporting import Exported, ExportOptions, export_records
from backend.folders.importing import SOURCE
from backend.label_studio.client import LabelStudio
from backend.label_studio.facts import Project, Task
from backend.label_studio.images import Images
from backend.label_studio.labels import polygon_config
from backend.label_studio.replaced import Replacement
from backend.settings import Settings
from model.formats.table import FORMATS
from tests.model.formats.scenes import read

SQUARE = {
    "id": "r1",
    "type": "polygonlabels",
    "from_name": "label",
    "to_name": "image",
    "value": {"points": [[10, 10], [50, 10], [50, 50], [10, 50]], "polygonlabels": ["leaf"]},
}

MADE = "2026-01-01T12:00:00Z"
NONE: dict[str, Replacement] = {}


def photo(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (20, 20), shade).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Exported]:
    """Export annotated tasks: by their ids, the address of their image and the name that it was imported by."""

    def exported(
        form: str, tasks: dict[int, tuple[Any, str | None]], replacements: Mapping[str, Replacement] = NONE
    ) -> Exported:
        def annotated_tasks(project_id: int) -> Iterator[Task]:
            for number, (address, source) in tasks.items():
                data = {"image": address, **({SOURCE: source} if source else {})}
                annotation: dict[str, Any] = {"id": number, "updated_at": MADE, "result": [SQUARE]}
                yield Task(number, data, True, [annotation])

        good = [address for address, _ in tasks.values() if isinstance(address, str) and address]
        project = Project(1, "1.1", "leaves", polygon_config(["leaf"]), "", (0, 0, 0, 0))
        client = SimpleNamespace(annotated_tasks=annotated_tasks, project=lambda number: project)
        settings = Settings(data_dir=tmp_path / "data")
        real = Images(LabelStudio("http://studio", "key"), settings)
        images = SimpleNamespace(settings=settings, replaced=replacements.get)
        images.fetch = lambda address, number: photo(number) if address in good else real.fetch(address, number)
        monkeypatch.setattr(exporting, "open_client", lambda *_: client)
        monkeypatch.setattr(exporting, "Images", lambda *_: images)
        return export_records(settings, ExportOptions(form, 1, tmp_path / "out"))

    return exported


def test_what_was_annotated_before_its_image_was_replaced_is_not_exported(export: Callable[..., Exported]) -> None:
    at = datetime.fromisoformat("2026-01-02T00:00:00+00:00").timestamp()
    tasks = {number: (f"/{number}.png", None) for number in (5, 6)}
    done = export("coco", tasks, {"/5.png": Replacement("a", at), "/6.png": Replacement("a", at - 86_400)})
    assert done.images == 1 and "task 5 is not exported: annotation 5 was made before its image" in done.problems[0]


@pytest.mark.parametrize("other", ["7-a.png", "7-a.jpg"])
@pytest.mark.parametrize("form", FORMATS)
def test_no_image_takes_the_place_of_one_that_was_exported_and_imported_again(
    export: Callable[..., Exported], tmp_path: Path, form: str, other: str
) -> None:
    """An export puts the task's number before a name; in another project 7 is the number of another task."""
    done = export(form, {3: ("/data/upload/2/0a1b2c3d-7-a.png", other), 7: ("/data/upload/2/0a1b2c3d-a.png", None)})
    assert (done.images, done.objects, done.problems) == (2, 2, [])
    assert len({path.read_bytes() for path in (tmp_path / "out").rglob("*.*g")}) == 2
    assert len({record.image for record in read(form, tmp_path / "out")}) == 2


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("is_imported", [False, True], ids=["by its address", "as it was imported"])
def test_a_long_name_in_any_script_stops_no_export(
    export: Callable[..., Exported], tmp_path: Path, form: str, is_imported: bool
) -> None:
    name = f"{'圃場' * 60}.png"
    done = export(form, {5: (f"https://images.example/{name}", name if is_imported else None)})
    assert (done.images, done.problems) == (1, [])
    (record,) = read(form, tmp_path / "out")
    assert record.image.endswith("圃場.png")


@pytest.mark.parametrize("data", [None, "", ["/data/upload/2/a.png", "/data/upload/2/b.png"]])
def test_a_task_without_one_address_is_named(export: Callable[..., Exported], data: object) -> None:
    done = export("coco", {5: (data, None), 6: ("/data/upload/2/a.png", None)})
    assert (done.images, done.problems) == (1, [f"task 5 holds no image address, got {data!r}; check its data"])
