"""The tools' own loaders take what we write. They are no dependencies; each test runs where its package is installed.

Tried with labelme 6.3.1, darwin-py 3.6.3, supervisely 6.74.51 and datumaro 1.13.12 (the base of CVAT's formats).
Vendors count pixels on an outline differently, so that masks may differ by one pixel there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from model.formats.table import FORMATS
from model.geometry import polygons_to_mask
from model.records import Outline
from tests.model.formats.scenes import CLASSES, RECORDS

RECORD = RECORDS[0]
PIXEL_AROUND = np.ones((3, 3), np.uint8)


def vendor(name: str) -> Any:
    return pytest.importorskip(name, reason=f"the vendor's package {name} is not installed here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images of the records where the formats look for them."""
    for record in RECORDS:
        for path in {record.image, FORMATS["supervisely"].image_path(record.image)}:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", record.size_hw[::-1]).save(tmp_path / path)
    return tmp_path


def assert_alike(mask: np.ndarray, outline: Outline) -> None:
    ours = polygons_to_mask(outline.parts, RECORD.size_hw)
    assert is_alike(mask, ours)


def is_alike(mask: np.ndarray, ours: np.ndarray) -> bool:
    """Whether two masks differ by no more than one pixel along their outlines, holes included."""
    inner, outer = (draw(ours.astype(np.uint8), PIXEL_AROUND).astype(bool) for draw in (cv2.erode, cv2.dilate))
    return bool((inner <= mask).all() and (mask <= outer).all())


def test_labelme_loads_what_we_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    labelme = vendor("labelme")
    FORMATS["labelme"].write(RECORDS, folder, CLASSES)
    objects: dict[Any, list[dict[str, Any]]] = {}
    for number, shape in enumerate(labelme.LabelFile(str(folder / "field 1" / "Rübe ä.json")).shapes):
        key = ("alone", number) if shape["group_id"] is None else shape["group_id"]
        objects.setdefault(key, []).append(shape)
    assert [shapes[0]["label"] for shapes in objects.values()] == [outline.label for outline in RECORD.outlines]
    for shapes, outline in zip(objects.values(), RECORD.outlines, strict=True):
        assert len(shapes) == len(outline.parts)
        drawn = [labelme.utils.shape_to_mask(RECORD.size_hw, s["points"], s["shape_type"]) for s in shapes]
        assert_alike(np.any(drawn, axis=0), outline)
    assert labelme.LabelFile(str(folder / "empty.json")).shapes == []


def test_darwin_py_parses_what_we_write(folder: Path) -> None:
    parse = vendor("darwin.utils").parse_darwin_json
    FORMATS["darwin"].write(RECORDS, folder, CLASSES)
    parsed = parse(folder / "field 1" / "Rübe ä.json")
    assert (parsed.filename, parsed.remote_path) == ("Rübe ä.jpg", "/field 1")
    assert (parsed.image_height, parsed.image_width) == RECORD.size_hw
    assert [entry.annotation_class.name for entry in parsed.annotations] == [o.label for o in RECORD.outlines]
    assert [len(entry.data["paths"]) for entry in parsed.annotations] == [2, 2, 3, 3, 1]
    assert {entry.annotation_class.annotation_type for entry in parsed.annotations} == {"polygon"}
    assert parse(folder / "empty.json").annotations == []


@pytest.mark.parametrize("shape", ["any", "polygon", "bitmap"])
def test_the_supervisely_sdk_loads_what_we_write(shape: str, folder: Path) -> None:
    sly = vendor("supervisely")
    classes = [{"title": name, "shape": shape, "color": "#112233"} for name in CLASSES]
    (folder / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    FORMATS["supervisely"].write(RECORDS, folder, CLASSES)
    meta = sly.ProjectMeta.from_json(json.loads((folder / "meta.json").read_text()))
    content = json.loads((folder / "field 1" / "ann" / "Rübe ä.jpg.json").read_text())
    objects: dict[Any, list[Any]] = {}
    for number, label in enumerate(sly.Annotation.from_json(content, meta).labels):
        objects.setdefault(label.binding_key or number, []).append(label)
    assert [labels[0].obj_class.name for labels in objects.values()] == [o.label for o in RECORD.outlines]
    for labels, outline in zip(objects.values(), RECORD.outlines, strict=True):
        mask = np.zeros(RECORD.size_hw, np.uint8)
        for label in labels:
            label.geometry.draw(mask, 1)
        assert_alike(mask.astype(bool), outline)


def test_the_supervisely_sdk_opens_the_project(folder: Path) -> None:
    sly = vendor("supervisely")
    FORMATS["supervisely"].write(RECORDS, folder, CLASSES)
    for record in RECORDS:
        (folder / record.image).unlink()
    project = sly.Project(str(folder), sly.OpenMode.READ)
    assert sorted(dataset.name for dataset in project.datasets) == ["ds0", "field 1"]
    assert project.total_items == 3
    assert [entry.name for entry in project.meta.obj_classes] == list(CLASSES)


def datumaro_items(folder: Path, name: str) -> dict[str, Any]:
    dataset = vendor("datumaro").Dataset.import_from(str(folder), name)
    return {Path(item.id).name: (item, dataset.categories()) for item in dataset}


def assert_datumaro_sees(items: dict[str, Any]) -> None:
    """All labels, and as many groups of shapes as we have objects; their pixels are ours."""
    item, categories = items["Rübe ä"]
    (labels,) = (entry for kind, entry in categories.items() if kind.name == "label")
    objects: dict[Any, list[Any]] = {}
    for number, entry in enumerate(item.annotations):
        objects.setdefault(("alone", number) if not entry.group else entry.group, []).append(entry)
    wanted = list(RECORD.outlines)
    got = [(labels[shapes[0].label].name, drawn(shapes)) for shapes in objects.values()]
    assert sorted(name for name, _ in got) == sorted(outline.label for outline in wanted)
    for outline in wanted:
        ours = polygons_to_mask(outline.parts, RECORD.size_hw)
        assert any(is_alike(mask, ours) for name, mask in got if name == outline.label)
    assert items["empty"][0].annotations == []


def drawn(shapes: list[Any]) -> np.ndarray:
    mask_utils = vendor("pycocotools.mask")
    mask = np.zeros(RECORD.size_hw, bool)
    for shape in shapes:
        if shape.type.name == "mask":
            mask |= np.asarray(shape.image).astype(bool)
        elif shape.type.name == "polygon":  # the other ones frame it
            mask |= mask_utils.decode(mask_utils.frPyObjects([list(shape.points)], *RECORD.size_hw))[..., 0].astype(
                bool
            )
    return mask


def arrange(folder: Path, places: dict[str, str]) -> None:
    """Move what we wrote to where datumaro looks for it."""
    for source, target in places.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).rename(folder / target)


def test_datumaro_imports_our_cvat_file(folder: Path) -> None:
    arrange(folder, {record.image: f"images/{record.image}" for record in RECORDS})
    FORMATS["cvat"].write(RECORDS, folder, CLASSES)
    assert_datumaro_sees(datumaro_items(folder, "cvat"))


def test_datumaro_imports_our_coco_file(folder: Path) -> None:
    FORMATS["coco"].write(RECORDS, folder, CLASSES)
    images = {record.image: f"images/default/{record.image}" for record in RECORDS}
    arrange(folder, {"annotations.json": "annotations/instances_default.json", **images})
    assert_datumaro_sees(datumaro_items(folder, "coco"))


def test_datumaro_imports_our_labelme_xml(folder: Path) -> None:
    FORMATS["labelme_xml"].write(RECORDS, folder, CLASSES)
    arrange(folder, {"field 1/Masks": "Masks/field 1", **{r.image: f"Images/{r.image}" for r in RECORDS}})
    assert_datumaro_sees(datumaro_items(folder, "label_me"))
