from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from backend.cli import main
from backend.errors import BadSetting
from model.formats.table import FORMATS
from model.records import Outline, Polygon, Record
from tests.backend.outlined_photos import CLASSES, SQUARES, picture, run, save
from tests.model.formats.scenes import read

WRITTEN_AS = {
    **{suffix: "JPEG" for suffix in ("jfif", "jpe", "JPEG", "JPG", "jpg")},
    **{"avif": "AVIF", "AVIF": "AVIF", "bmp": "BMP", "PNG": "PNG", "tif": "TIFF", "TIFF": "TIFF", "webp": "WEBP"},
}


@pytest.mark.parametrize("suffix", WRITTEN_AS)
def test_every_kind_of_image_is_outlined(tmp_path: Path, weights: Path, suffix: str) -> None:
    (tmp_path / "photos").mkdir()
    image = tmp_path / "photos" / f"a.{suffix}"
    options = {"quality": 95} if WRITTEN_AS[suffix] in ("JPEG", "AVIF") else {}
    Image.fromarray(picture(SQUARES["a.png"])).save(image, WRITTEN_AS[suffix], **options)
    done = run(image.parent, weights, "coco")
    assert (done.images, done.objects, done.problems) == (1, 2, [])


def test_images_of_kinds_that_are_not_taken_are_one_line(photos: Path, weights: Path) -> None:
    for name in ("a.gif", "b.GIF", "field 1/c.heic", "d.jp2", "notes.txt", "e.json", ".hidden.gif", "f.svg"):
        (photos / name).write_bytes(b"whatever")
    (photos / "folder.gif").mkdir()
    done = run(photos, weights, "coco")
    assert (done.images, done.problems) == (
        3,
        ["left out images of kinds that are not taken: 2 .gif, 1 .heic, 1 .jp2, 1 .svg; convert them to PNG or JPEG"],
    )


def test_a_folder_of_such_images_alone_says_so(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.heic").write_bytes(b"whatever")
    with pytest.raises(BadSetting, match=r"holds no image \(left out images of kinds that are not taken: 1 \.heic"):
        run(tmp_path / "photos", weights, "coco")


def test_photos_as_cameras_and_microscopes_write_them(tmp_path: Path, weights: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    upright = picture({"tomato": [(8, 16)], "plum": [(80, 40)]})[:100]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(photos / "turned.tif", exif=exif)
    Image.fromarray(np.zeros((100, 128), np.float32)).save(photos / "float.tif")
    Image.fromarray(np.full((100, 128), 900, np.uint16)).save(photos / "dark.tif")
    done = run(photos, weights, "labelme")
    (record,) = [record for record in read("labelme", photos) if record.image == "turned.tif"]
    assert record.size_hw == (100, 128)
    corners = {outline.label: tuple(outline.parts[0].exterior.min(0).round()) for outline in record.outlines}
    assert corners == {"tomato": (8, 16), "plum": (80, 40)}
    assert "float.tif holds float32 pixels" in done.problems[0]
    assert "all images of 16 bits here (1) stay under 4096" in done.problems[1] and len(done.problems) == 2


@pytest.mark.parametrize("export_format", ["labelme", "coco"])
def test_unreadable_images_are_told_at_the_end_and_the_rest_goes_on(
    photos: Path, weights: Path, export_format: str
) -> None:
    for name in ("0.jpg", "field 1/cut.png"):
        (photos / name).write_bytes((photos / "a.png").read_bytes()[:60])
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


def test_where_another_image_lies_no_annotation_is_written(photos: Path, weights: Path) -> None:
    out = photos.parent / "out"
    save(out / "a.png", {"tomato": [(8, 8)]})
    for _ in range(2):
        done = run(photos, weights, "labelme", out=out)
        assert len(done.problems) == 1 and "a.png is another image than" in done.problems[0]
        assert not (out / "a.json").exists() and (out / "field 1/none.json").exists()


def test_another_image_is_known_by_its_pixels_not_by_its_date(photos: Path, weights: Path) -> None:
    """Archives give all their files one date, and images without compression have one size."""
    out = photos.parent / "out"
    for folder, squares in ((photos, SQUARES["a.png"]), (out, {})):
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture(squares)).save(folder / "b.bmp")
        os.utime(folder / "b.bmp", (1e9, 1e9))
    done = run(photos, weights, "labelme", out=out)
    assert [line.partition(" is another image than ")[0] for line in done.problems] == [str(out / "b.bmp")]
    assert not (out / "b.json").exists()


def test_a_link_to_an_image_that_is_gone_is_told(photos: Path, weights: Path) -> None:
    (photos / "b.png").symlink_to(photos / "moved.png")
    (photos / "c.png").symlink_to(photos / "a.png")
    (photos / "notes.txt").symlink_to(photos / "moved.txt")
    done = run(photos, weights, "coco")
    assert done.images == 4 and len(done.problems) == 1
    assert f"{photos / 'b.png'} cannot be read (No such file or directory)" in done.problems[0]


def test_a_link_that_leads_to_itself_stops_nothing(photos: Path, weights: Path) -> None:
    (photos / "b.png").symlink_to(photos / "b.png")
    done = run(photos, weights, "coco", out=photos / "out")
    assert done.images == 3 and len(done.problems) == 1
    assert f"{photos / 'b.png'} cannot be read (Too many levels of symbolic links)" in done.problems[0]


@pytest.mark.parametrize("export_format", ["coco", "labelme", "supervisely", "yolo"])
@pytest.mark.parametrize("most_bytes", [0, 300])
def test_a_full_disk_ends_as_one_line_and_loses_nothing(
    photos: Path, weights: Path, export_format: str, most_bytes: int
) -> None:
    """No file may be larger than that: the system refuses as on a full disk, and names no file either."""
    out = photos.parent / "out"
    arguments = ["--img-dir", photos, "--weights", weights, "--export-format", export_format, "--out", out]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        shown = CliRunner().invoke(main, ["auto-annotate", *map(str, arguments)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert shown.exit_code == 1 and shown.exception.__class__ is SystemExit
    told = shown.output.splitlines()[-1]
    assert told.startswith(f"maskal: File too large: {out}") and told.endswith(
        "; check access rights and free space there"
    )
    again = run(photos, weights, export_format, out=out)
    assert again.images + again.before == 3 and again.problems == []
