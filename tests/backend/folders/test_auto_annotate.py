from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from backend.cli import TOOLS, main
from backend.errors import BadSetting
from backend.folders import auto_annotate as module
from backend.folders.auto_annotate import AutoAnnotateOptions, auto_annotate
from backend.project.config import ProjectConfig
from backend.settings import Settings
from model.engines.fake import Encoded, FakeEngine
from model.errors import BadCheckpoint, BadRecord
from model.formats.table import FORMATS
from model.instances import Instances
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.outlined_photos import CLASSES, COLOURS, SQUARES, assert_squares, network, picture, run, save
from tests.model.formats.scenes import read


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


def test_torch_computes_with_as_many_threads_afterwards_as_before(photos: Path, weights: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        run(photos, weights, "labelme")
        with ThreadPoolExecutor(1) as pool:
            assert (torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == (3, 3)
    finally:
        torch.set_num_threads(before)


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
    add_version(folder.registry, fields, network().tensors())
    folder.registry.set_current("maskal-r3")
    assert run(photos, None, "labelme").images == 3
    assert run(photos, None, "labelstudio", version="maskal-r3", project_id=4).objects == 4
    assert json.loads((photos / "labelstudio.json").read_text())[0]["predictions"][0]["model_version"] == "maskal-r3"
    with pytest.raises(BadSetting, match="either --weights or a version"):
        run(photos, weights, "labelme", version="maskal-r3")


@pytest.mark.parametrize(
    ("options", "wanted"), [({}, (0.7, 0.4)), ({"conf_thres": 0.6}, (0.6, 0.4))], ids=["the project's", "one's own"]
)
def test_a_version_of_a_project_outlines_what_it_pre_labels(
    photos: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, float], wanted: tuple[float, float]
) -> None:
    folder = module.ProjectFolder(photos.parent / "data" / "projects" / "4.1700000000")
    folder.store_config(ProjectConfig(engine="fake", confidence_threshold=0.7, nms_threshold=0.4))
    fields = VersionFields(3, CLASSES, "fake", {"network": "colours"}, {}, None, "", True, "")
    add_version(folder.registry, fields, network().tensors())
    folder.registry.set_current("maskal-r3")
    asked, decode = set(), FakeEngine.decode

    def watched(self: FakeEngine, encoded: Encoded, *, any_class: bool) -> Instances:
        asked.add((self.config.confidence_threshold, self.config.nms_threshold, any_class))
        return decode(self, encoded, any_class=any_class)

    monkeypatch.setattr(FakeEngine, "decode", watched)
    run(photos, None, "labelme", **options)
    assert asked == {(*wanted, True)}


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


@pytest.mark.parametrize(("device", "message"), [("banana", "device must be cpu, cuda"), ("cuda:99", "cannot be used")])
def test_a_device_that_is_not_there_is_told(photos: Path, weights: Path, device: str, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        auto_annotate(
            Settings(data_dir=photos.parent / "data"),
            AutoAnnotateOptions(photos, "coco", weights=weights, device=device),
        )
