from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from backend import auto_annotate as module
from backend.annotation_store import OneFile
from backend.annotations import read_outlines
from backend.auto_annotate import Annotated, AutoAnnotateOptions, auto_annotate
from backend.cli import TOOLS, main
from backend.errors import BadSetting
from backend.labels import parse_label_config
from backend.settings import Settings
from model import checkpoints
from model.engines.base import EngineConfig
from model.engines.fake import FakeEngine
from model.errors import BadCheckpoint, BadRecord
from model.formats.table import FORMATS
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from model.registry import VersionFields
from tests.model.formats.scenes import read

COLOURS = {"tomato": (215, 48, 39), "plum": (69, 60, 180)}
CLASSES = tuple(COLOURS)
SQUARES = {
    "a.png": {"tomato": [(8, 16), (80, 72)]},
    "field 1/Rübe.png": {"plum": [(40, 40)], "tomato": [(84, 8)]},
    "field 1/none.png": {},
}
SIDE = 32


def picture(squares: dict[str, list[tuple[int, int]]]) -> np.ndarray:
    """RGB (128, 128, 3): squares of a class's colour at (x, y) on white."""
    image = np.full((128, 128, 3), 250, np.uint8)
    for label, corners in squares.items():
        for x, y in corners:
            image[y : y + SIDE, x : x + SIDE] = COLOURS[label]
    return image


def save(path: Path, squares: dict[str, list[tuple[int, int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(squares)[..., ::-1])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, squares in SQUARES.items():
        save(tmp_path / "photos" / name, squares)
    return tmp_path / "photos"


def network() -> FakeEngine:
    engine = FakeEngine(CLASSES, EngineConfig())
    engine.load_tensors({"colours": torch.tensor([COLOURS[c] for c in CLASSES]) / 255}, CLASSES)
    return engine


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    metadata = {"engine": "fake", "classes": json.dumps(CLASSES), "config": json.dumps({"network": "colours"})}
    checkpoints.save(path, network().tensors(), metadata)
    return path


def run(photos: Path, weights: Path | None, export_format: str, **options: object) -> Annotated:
    settings = Settings(data_dir=photos.parent / "data")
    wanted = AutoAnnotateOptions(photos, export_format, weights=weights, device="cpu", **options)  # type: ignore[arg-type]
    return auto_annotate(settings, wanted)


def assert_squares(outlines: tuple[Outline, ...], squares: dict[str, list[tuple[int, int]]]) -> None:
    """The outlines are those squares, each within a pixel."""
    wanted = {(label, corner) for label, corners in squares.items() for corner in corners}
    assert len(outlines) == len(wanted)
    for label, corner in wanted:
        drawn = (picture({label: [corner]}) == COLOURS[label]).all(2)
        masks = [polygons_to_mask(o.parts, (128, 128)) for o in outlines if o.label == label]
        assert max((mask & drawn).sum() / (mask | drawn).sum() for mask in masks) > 0.85


def test_the_command_knows_all_formats() -> None:
    assert set(TOOLS) == set(FORMATS)


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_folder_with_subfolders_is_outlined_in_each_format(
    photos: Path, weights: Path, tmp_path: Path, export_format: str
) -> None:
    out = tmp_path / "out"
    done = run(photos, weights, export_format, out=out)
    assert (done.images, done.before, done.objects, done.problems) == (3, 0, 4, [])
    form = FORMATS[export_format]
    records = {record.image: record for record in read(export_format, out)}
    assert set(records) == {form.image_path(name) if form.wants_images else name for name in SQUARES}
    for name, squares in SQUARES.items():
        record = records[form.image_path(name)]
        assert record.size_hw == (128, 128)
        assert_squares(record.outlines, squares)
        assert (out / form.image_path(name)).exists() == form.wants_images
    assert not list(out.rglob(".*"))


def test_label_studio_tasks_have_predictions_and_a_config_for_them(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio")
    config = parse_label_config((photos / "labelstudio_config.xml").read_text())
    tasks = json.loads((photos / "labelstudio.json").read_text())
    addresses = {task["data"][config.image_key]: task["predictions"][0] for task in tasks}
    assert set(addresses) == {
        "/data/local-files/?d=photos/a.png",
        "/data/local-files/?d=photos/field%201/R%C3%BCbe.png",
        "/data/local-files/?d=photos/field%201/none.png",
    }
    shown = addresses["/data/local-files/?d=photos/a.png"]
    assert shown["model_version"] == "weights"
    outlines, problems = read_outlines({"id": 1, **shown}, config, (128, 128), with_scores=True)
    assert not problems and all(0.5 < (outline.score or 0) <= 1 for outline in outlines)
    assert_squares(outlines, SQUARES["a.png"])


def test_an_address_of_images_can_be_given(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio", image_root_url="https://photos.example/")
    tasks = json.loads((photos / "labelstudio.json").read_text())
    assert tasks[0]["data"]["image"] == "https://photos.example/a.png"


@pytest.mark.parametrize("export_format", ["labelme", "coco"])
def test_unreadable_images_are_told_at_the_end_and_the_rest_goes_on(
    photos: Path, weights: Path, export_format: str
) -> None:
    for name in ("0.jpg", "field 1/cut.png"):
        (photos / name).write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    done = run(photos, weights, export_format)
    assert (done.images, len(done.problems)) == (3, 2)
    assert [str(photos / name) in line for name, line in zip(("0.jpg", "field 1/cut.png"), done.problems, strict=True)]
    assert {r.image for r in read(export_format, photos)} == set(SQUARES)


def test_what_is_annotated_is_left_alone_unless_it_is_to_be_overwritten(photos: Path, weights: Path) -> None:
    triangle = Polygon(np.array([[1, 1], [90, 1], [1, 90]], float))
    FORMATS["labelme"].write([Record("a.png", (128, 128), (Outline("by hand", (triangle,)),))], photos, ["by hand"])
    before = (photos / "a.json").read_bytes()
    done = run(photos, weights, "labelme")
    assert (done.images, done.before) == (2, 1) and (photos / "a.json").read_bytes() == before
    again = run(photos, weights, "labelme")
    assert (again.images, again.before) == (0, 3)
    assert run(photos, weights, "labelme", overwrite=True).images == 3
    assert {o.label for r in read("labelme", photos) for o in r.outlines} == set(CLASSES)


@pytest.mark.parametrize("export_format", ["coco", "cvat", "labelstudio"])
def test_a_file_for_all_images_is_not_overwritten_either(photos: Path, weights: Path, export_format: str) -> None:
    run(photos, weights, export_format)
    files = {path: path.read_bytes() for path in photos.iterdir() if path.suffix in (".json", ".xml")}
    with pytest.raises(BadSetting, match="is there already; give another --out, or --overwrite"):
        run(photos, weights, export_format)
    assert {path: path.read_bytes() for path in files} == files
    save(photos / "b.png", {"plum": [(8, 8)]})
    assert run(photos, weights, export_format, overwrite=True).images == 4


@pytest.mark.parametrize("export_format", ["labelme", "coco", "supervisely"])
def test_a_stopped_run_goes_on_where_it_was(
    photos: Path, weights: Path, tmp_path: Path, export_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        save(photos / f"c{number}.png", {"plum": [(8, 8)]})
    computed: list[int] = []
    decode = FakeEngine.decode

    def counted(self: FakeEngine, *arguments: object, **options: object):
        if len(computed) == 6:
            raise KeyboardInterrupt
        computed.append(1)
        return decode(self, *arguments, **options)  # type: ignore[arg-type]

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "decode", counted)
        with pytest.raises(KeyboardInterrupt):
            run(photos, weights, export_format, out=out)
    done = run(photos, weights, export_format, out=out)
    assert done.before >= 2 and done.images + done.before == 9
    whole = tmp_path / "whole"
    run(photos, weights, export_format, out=whole)
    contents = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (out, whole)]
    assert contents[0] == contents[1]


def test_a_journal_cut_off_in_a_line_loses_that_line_only(tmp_path: Path) -> None:
    records = [Record(f"{n}.png", (9, 9), ()) for n in range(3)]
    store = OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    for record in records:
        store.add(record)
    (journal,) = tmp_path.iterdir()
    journal.write_text(journal.read_text()[:-9])
    again = OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    assert [again.has(record.image) for record in records] == [True, True, False]
    again.add(records[2])
    again.finish([record.image for record in records])
    assert [r.image for r in read("coco", tmp_path)] == ["0.png", "1.png", "2.png"] and not journal.exists()


def test_other_settings_do_not_go_on_with_a_journal(tmp_path: Path) -> None:
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.5}, overwrite=False)
    with pytest.raises(BadSetting, match="begun with other weights, classes or thresholds"):
        OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.6}, overwrite=False)
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {"conf_thres": 0.6}, overwrite=True)


def test_two_images_of_one_annotation_file_are_told(photos: Path, weights: Path) -> None:
    shutil.copy(photos / "a.png", photos / "a.jpg")
    done = run(photos, weights, "labelme")
    assert done.images == 3 and done.problems == [
        f"{photos / 'a.png'} and {photos / 'a.jpg'} would have one annotation file; rename one of them"
    ]
    assert run(photos, weights, "coco").images == 4


def test_hidden_files_and_the_output_itself_are_not_outlined(photos: Path, weights: Path) -> None:
    save(photos / ".trash" / "old.png", {"plum": [(8, 8)]})
    save(photos / "._a.png", {"plum": [(8, 8)]})
    for _ in range(2):
        done = run(photos, weights, "supervisely", out=photos / "for supervisely")
        assert done.images + done.before == 3


def test_supervisely_wants_a_folder_of_its_own_no_tiff_and_its_classes(photos: Path, weights: Path) -> None:
    with pytest.raises(BadSetting, match="cannot lie among the images; give another folder with --out"):
        run(photos, weights, "supervisely")
    save(photos / "b.tif", {"plum": [(8, 8)]})
    out = photos.parent / "out"
    done = run(photos, weights, "supervisely", out=out)
    assert done.images == 3 and done.problems == [
        "b.tif: Supervisely takes no TIFF; convert the image to PNG and read it again"
    ]
    assert not list(out.rglob("b.tif*"))
    meta = photos.parent / "meta.json"
    meta.write_text(json.dumps({"classes": [{"title": "plum", "shape": "polygon"}]}))
    with pytest.raises(BadRecord, match="has no class tomato"):
        run(photos, weights, "supervisely", out=photos.parent / "other", supervisely_meta_json=meta)


def test_parts_of_one_object_stay_apart_from_those_of_another(
    photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MaskAL gave all of them the same group_id: on import they became one object."""
    decode = FakeEngine.decode

    def halved(self: FakeEngine, *arguments: object, **options: object):
        found = decode(self, *arguments, **options)  # type: ignore[arg-type]
        for mask, box in zip(found.masks, found.boxes_xyxy, strict=True):
            middle = int(box[0] + box[2]) // 2
            mask[:, middle - 4 : middle + 4] = False
        return found

    monkeypatch.setattr(FakeEngine, "decode", halved)
    run(photos, weights, "labelme")
    shapes = json.loads((photos / "a.json").read_text())["shapes"]
    assert sorted(shape["group_id"] for shape in shapes) == [1, 1, 2, 2]
    records = {record.image: record for record in read("labelme", photos)}
    assert [len(outline.parts) for outline in records["a.png"].outlines] == [2, 2]


def test_a_version_of_a_project_can_be_used(photos: Path, weights: Path) -> None:
    settings = Settings(data_dir=photos.parent / "data")
    with pytest.raises(BadSetting, match="connected projects: none; choose one with --project, or give --weights"):
        run(photos, None, "labelme")
    folder = module.ProjectFolder(settings.data_dir / "projects" / "4.1700000000")
    folder.path.mkdir(parents=True)
    with pytest.raises(BadSetting, match="no version yet"):
        run(photos, None, "labelme")
    fields = VersionFields(3, CLASSES, "fake", {"network": "colours"}, {}, None, "", True, "")
    folder.registry.add(fields, network().tensors())
    folder.registry.set_current("maskal-r3")
    assert run(photos, None, "labelme").images == 3
    assert run(photos, None, "labelstudio", version="maskal-r3", project_id=4).objects == 4
    assert json.loads((photos / "labelstudio.json").read_text())[0]["predictions"][0]["model_version"] == "maskal-r3"
    with pytest.raises(BadSetting, match="either --weights or a version"):
        run(photos, weights, "labelme", version="maskal-r3")


def test_weights_that_do_not_tell_their_classes_need_them(photos: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pth"
    torch.save(network().tensors(), bare)
    with pytest.raises(BadCheckpoint, match=r"does not tell its network and classes; give them \(--network-config"):
        run(photos, bare, "labelme")


def test_classes_that_are_not_those_of_the_weights_are_refused(photos: Path, weights: Path) -> None:
    with pytest.raises(BadCheckpoint, match="was trained for tomato, plum, not for plum, tomato; leave them out"):
        run(photos, weights, "labelme", classes=("plum", "tomato"))


def test_the_command_tells_what_was_done_and_what_could_not_be(photos: Path, weights: Path) -> None:
    (photos / "0.jpg").write_bytes(b"no image")
    arguments = ["auto-annotate", "--img-dir", str(photos), "--weights", str(weights), "--export-format", "labelme"]
    shown = CliRunner().invoke(main, arguments, env={"DATA_DIR": str(photos.parent / "data")})
    assert shown.exit_code == 0
    assert "3 images outlined with 4 objects; 1 problem:" in shown.output and "0.jpg cannot be read" in shown.output
    again = CliRunner().invoke(main, arguments, env={"DATA_DIR": str(photos.parent / "data")})
    assert "0 images outlined with 0 objects, 3 had been before; 1 problem:" in again.output
    wrong = CliRunner().invoke(main, [*arguments, "--supervisely-meta-json", str(weights)])
    assert wrong.exit_code == 2


def test_a_folder_that_cannot_be_written_ends_as_one_line(photos: Path, weights: Path) -> None:
    (photos.parent / "file").write_text("in the way")
    arguments = ["auto-annotate", "--img-dir", str(photos), "--weights", str(weights), "--export-format", "coco"]
    shown = CliRunner().invoke(main, [*arguments, "--out", str(photos.parent / "file" / "out")])
    assert shown.exit_code == 1 and "maskal: Not a directory: " in shown.output


def test_an_image_that_a_stopped_run_did_not_bring_is_brought(photos: Path, weights: Path) -> None:
    out = photos.parent / "out"
    run(photos, weights, "supervisely", out=out)
    (out / "ds0/img/a.png").unlink()
    assert run(photos, weights, "supervisely", out=out).images == 0
    assert (out / "ds0/img/a.png").read_bytes() == (photos / "a.png").read_bytes()


def test_an_empty_folder_is_told(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BadSetting, match=r"nothing holds no image \(.bmp, "):
        run(tmp_path / "nothing", weights, "labelme")


def test_the_real_labelme_opens_what_was_outlined(photos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    labelme = pytest.importorskip("labelme", reason="the vendor's package labelme is not installed here")
    run(photos, weights, "labelme")
    opened = labelme.LabelFile(str(photos / "field 1/Rübe.json"))
    assert (labelme.utils.img_data_to_arr(opened.imageData) == picture(SQUARES["field 1/Rübe.png"])).all()
    for label, corners in SQUARES["field 1/Rübe.png"].items():
        drawn = (picture({label: corners}) == COLOURS[label]).all(2)
        (shape,) = [shape for shape in opened.shapes if shape["label"] == label]
        mask = labelme.utils.shape_to_mask((128, 128), shape["points"], shape["shape_type"])
        assert (mask & drawn).sum() / (mask | drawn).sum() > 0.85


@pytest.mark.parametrize("export_format", ["coco", "cvat", "labelme"])
def test_names_that_tools_cannot_hold_are_told_before_anything_is_computed(
    photos: Path, weights: Path, export_format: str
) -> None:
    strange = (
        "back\\slash.png",
        "A:1.png",
        " lead.png",
        "bell\a.png",
        b"bl\xe4tt.png".decode(errors="surrogateescape"),
    )
    for name in strange:
        shutil.copy(photos / "a.png", photos / name)
    (photos / f"{'x' * 246}.png").write_bytes((photos / "a.png").read_bytes())
    done = run(photos, weights, export_format)
    told = [line for line in done.problems if "has a name that annotation tools cannot hold; rename it" in line]
    assert len(told) == len(strange)
    assert done.images + len(done.problems) == 3 + len(strange) + 1
    assert {"a.png", "field 1/none.png"} < {r.image for r in read(export_format, photos)}


def test_what_is_no_annotation_of_the_image_is_neither_taken_for_one_nor_overwritten(
    photos: Path, weights: Path
) -> None:
    run(photos, weights, "labelme")
    (photos / "a.json").write_text('{"camera": "x"}')
    for overwrite in (False, True):
        done = run(photos, weights, "labelme", overwrite=overwrite)
        assert done.problems == [
            f"{photos / 'a.json'} is no annotation of a.png; move it away, or choose another folder"
        ]
    other = run(photos, weights, "darwin")
    assert (other.images, other.before, len(other.problems)) == (0, 0, 3)


@pytest.mark.parametrize("out", ["out", "x/../out"])
def test_an_output_below_the_images_is_not_outlined_whatever_its_path(photos: Path, weights: Path, out: str) -> None:
    (photos / "x").mkdir()
    for _ in range(2):
        done = run(photos, weights, "labelme", out=photos / out)
        assert done.images + done.before == 3


def test_an_output_above_the_images_is_no_reason_to_leave_them_out(photos: Path, weights: Path) -> None:
    assert run(photos / "field 1", weights, "coco", out=photos).images == 2


def test_masks_beside_the_photos_are_no_photos(photos: Path, weights: Path) -> None:
    save(photos / "Masks" / "a_mask_0.png", {"plum": [(8, 8)]})
    assert run(photos, weights, "labelme_xml").images == 3


def test_the_image_that_was_outlined_is_the_one_that_lies_there(photos: Path, weights: Path) -> None:
    out = photos.parent / "out"
    run(photos, weights, "labelme", out=out)
    save(photos / "a.png", {"tomato": [(8, 8)]})
    (done,) = run(photos, weights, "labelme", out=out).problems
    assert "a.png is another image than" in done
    assert run(photos, weights, "labelme", out=out, overwrite=True).problems == []
    assert (out / "a.png").read_bytes() == (photos / "a.png").read_bytes()


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    OneFile(FORMATS["coco"], tmp_path, CLASSES, {}, overwrite=False)
    (journal,) = tmp_path.iterdir()
    journal.write_text(journal.read_text() + "{]\n")
    with pytest.raises(BadSetting, match=r"is damaged .*; start anew with --overwrite"):
        OneFile(FORMATS["coco"], tmp_path, CLASSES, {}, overwrite=False)


@pytest.mark.parametrize(("device", "message"), [("banana", "device must be cpu, cuda"), ("cuda:99", "no such GPU")])
def test_a_device_that_is_not_there_is_told(photos: Path, weights: Path, device: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        auto_annotate(
            Settings(data_dir=photos.parent / "data"),
            AutoAnnotateOptions(photos, "coco", weights=weights, device=device),
        )


def test_addresses_get_the_slash_that_they_lack(photos: Path, weights: Path) -> None:
    run(photos, weights, "labelstudio", image_root_url="https://photos.example/today")
    tasks = json.loads((photos / "labelstudio.json").read_text())
    assert tasks[0]["data"]["image"] == "https://photos.example/today/a.png"
