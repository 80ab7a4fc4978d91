from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from backend.simulation.options import SimulationOptions
from backend.simulation.run import run
from model.errors import BadRecord
from model.formats import coco
from model.record_images import RecordImages
from tests.backend.simulation.discs import spoilt


def test_a_missing_image_is_named(options: SimulationOptions, tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"image .*\.png is not in"):
        run(replace(options, images=tmp_path))


def test_all_bad_images_are_named_before_anything_is_trained(options: SimulationOptions, tmp_path: Path) -> None:
    lying = cv2.imencode(".png", np.zeros((80, 60, 3), np.uint8))[1].tobytes()
    floats = cv2.imencode(".tif", np.zeros((60, 80), np.float32))[1].tobytes()
    wrong = spoilt(options, tmp_path, _3=lying, _5=None, _7=b"", _11=floats, _12=lying, _14=lying)
    with pytest.raises(BadRecord) as caught:
        run(wrong)
    line = str(caught.value)
    assert line.startswith("6 of 16 images cannot be used: ")
    assert "3.png is 60 x 80 px, its annotations are for 80 x 60 (width and height swapped)" in line
    assert f"image 5.png is not in {wrong.images}; correct --images" in line
    assert "7.png cannot be read (it is empty); replace the file" in line
    assert "11.png holds float32 pixels" in line and line.endswith("; and 1 more")
    assert not list(options.out.rglob("*.safetensors")) and not list(options.out.rglob("steps.jsonl"))


@pytest.mark.parametrize("name", ["photos\\3.png", "C:\\photos\\3.png", "gone/3.png"])
def test_a_photo_is_found_without_the_folders_of_another_machine(
    options: SimulationOptions, tmp_path: Path, name: str
) -> None:
    renamed = spoilt(options, tmp_path)
    content = json.loads(renamed.annotations.read_text())
    content["images"][3]["file_name"] = name
    content["images"][3]["width"] = None
    renamed.annotations.write_text(json.dumps(content))
    assert run(replace(renamed, seeds=1, loops=1, strategies=("random",))).is_file()


@pytest.mark.parametrize("name", ["photos\\33.png", "C:\\photos\\33.png", "gone/33.png"])
def test_a_photo_that_is_somewhere_else_is_told_at_once(options: SimulationOptions, tmp_path: Path, name: str) -> None:
    wrong = spoilt(options, tmp_path)
    content = json.loads(wrong.annotations.read_text())
    content["images"][3]["file_name"] = name
    wrong.annotations.write_text(json.dumps(content))
    with pytest.raises(BadRecord, match=r"1 of 16 images cannot be used: .*33\.png"):
        run(wrong)


def test_swapped_sizes_in_the_annotations_are_refused(options: SimulationOptions, tmp_path: Path) -> None:
    wrong = spoilt(options, tmp_path)
    content = json.loads(wrong.annotations.read_text())
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    wrong.annotations.write_text(json.dumps(content))
    with pytest.raises(BadRecord, match=r"0\.png is 80 x 60 px, its annotations are for 60 x 80 .width and height sw"):
        run(wrong)


def test_a_turned_photo_is_learned_as_it_was_annotated(options: SimulationOptions, tmp_path: Path) -> None:
    """OpenCV turned none of these; the size was right by chance only where nothing lay on its side."""
    turned = spoilt(options, tmp_path)
    upright = Image.open(turned.images / "3.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(turned.images / "3.png", exif=exif)
    (record,) = [r for r in coco.read(turned.annotations) if r.image == "3.png"]
    assert (RecordImages(turned.images, 1).load(record) == np.asarray(upright)).all()
    run(replace(turned, seeds=1, loops=1, strategies=("random",)))


def test_an_image_that_was_read_in_part_is_left_out_and_told(
    options: SimulationOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partly = spoilt(options, tmp_path)
    content = json.loads(partly.annotations.read_text())
    content["annotations"][2]["iscrowd"] = 1
    name = content["images"][content["annotations"][2]["image_id"] - 1]["file_name"]
    partly.annotations.write_text(json.dumps(content))
    run(replace(partly, seeds=1, loops=1, strategies=("random",)))
    assert f"1 of 16 images are left out, not all of them can be read: {name}: annotation 3 is a crowd" in caplog.text
    assert json.loads((options.out / "settings.json").read_text())["records"] == 15


def test_images_of_12_bits_in_16_are_told(
    options: SimulationOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dark = cv2.imencode(".png", np.full((60, 80), 4000, np.uint16))[1].tobytes()
    run(replace(spoilt(options, tmp_path, _3=dark), seeds=1, loops=1, strategies=("random",)))
    assert "all images of 16 bits here (1) stay under 4096" in caplog.text
