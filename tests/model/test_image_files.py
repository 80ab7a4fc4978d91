from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from model.errors import BadImageFile
from model.image_files import IMAGE_SUFFIXES, Depths, decode_checked, decode_image, suffix_of, upright_size

FORMATS = {
    ".avif": ("AVIF", {"quality": 100}),
    ".bmp": ("BMP", {}),
    ".jfif": ("JPEG", {"quality": 100}),
    ".jpe": ("JPEG", {"quality": 100}),
    ".jpeg": ("JPEG", {"quality": 100}),
    ".jpg": ("JPEG", {"quality": 100}),
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".webp": ("WEBP", {"lossless": True}),
}
"""How an image with each suffix that is taken is written."""

STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda up: up,
    2: lambda up: up[:, ::-1],
    3: lambda up: np.rot90(up, 2),
    4: lambda up: up[::-1],
    5: lambda up: up.swapaxes(0, 1),
    6: lambda up: np.rot90(up, 1),
    7: lambda up: np.rot90(up, 2).swapaxes(0, 1),
    8: lambda up: np.rot90(up, -1),
}
"""What stands in a file with each orientation whose upright image is `up`."""


def scene() -> np.ndarray:
    """RGB (64, 96, 3) that no turn and no flip leaves as it is."""
    small = np.full((4, 6, 3), 30, np.uint8)
    small[0, 0], small[1, 3], small[3, 1] = 250, (200, 0, 0), (0, 0, 200)
    return small.repeat(16, axis=0).repeat(16, axis=1)


def saved(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    image.save(content, form, **options)
    return content.getvalue()


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def tiff(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()


def test_every_suffix_that_is_taken_is_tried_here() -> None:
    assert sorted(FORMATS) == sorted(IMAGE_SUFFIXES)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".bmp"])
def test_every_orientation_of_every_suffix_is_turned_once(suffix: str, orientation: int) -> None:
    form, options = FORMATS[suffix]
    content = saved(STORED[orientation](scene()), form, exif=oriented(orientation), **options)
    pixels = decode_image(content, "a", 1)
    assert pixels.shape == (64, 96, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - scene()).mean() < 2, "JPEG and AVIF lose a little"
    assert upright_size(content, "a", 1) == (64, 96)


def test_a_bitmap_has_no_orientation() -> None:
    content = saved(scene(), "BMP")
    assert (decode_image(content, "a", 1) == scene()).all() and upright_size(content, "a", 1) == (64, 96)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "I;16B", "RGBA"])
def test_a_turned_tiff_of_every_kind_of_pixel_is_turned_once(mode: str, orientation: int) -> None:
    grey = np.where(scene()[..., 0] > 100, 255, 0).astype(np.uint8)
    stored = np.ascontiguousarray(STORED[orientation](grey))
    if mode == "I;16B":
        image = Image.frombytes(mode, stored.shape[::-1], (stored.astype(np.uint16) * 257).astype(">u2").tobytes())
    else:
        image = Image.fromarray(stored.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(stored)
        image = image.convert(mode) if mode != "I;16" else image
    content = saved(image, "TIFF", exif=oriented(orientation))
    pixels = decode_image(content, "a", 1)
    assert pixels.shape == (64, 96, 3) and (pixels == grey[..., None]).all()
    assert upright_size(content, "a", 1) == (64, 96)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF"])
def test_an_orientation_that_browsers_do_not_read_turns_nothing(form: str) -> None:
    """Editors leave `tiff:Orientation` in the XMP of images that they have turned upright."""
    options: dict[str, Any] = {"tiffinfo": {700: XMP}} if form == "TIFF" else {"xmp": XMP}
    content = saved(scene(), form, **options)
    assert b"tiff:Orientation" in content
    assert decode_image(content, "a", 1).shape == (64, 96, 3) and upright_size(content, "a", 1) == (64, 96)


def test_an_exif_in_the_texts_of_a_png_turns_nothing() -> None:
    """ImageMagick writes it there when it converts a photo, and no browser looks there."""
    texts = PngImagePlugin.PngInfo()
    data = oriented(6).tobytes()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    content = saved(scene(), "PNG", pnginfo=texts)
    assert (decode_image(content, "a", 1) == scene()).all() and upright_size(content, "a", 1) == (64, 96)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0no tags at all", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_costs_no_image(form: str, exif: bytes) -> None:
    """Data sets that people train on hold such photos (python-pillow/Pillow, issues 4852 and 8348)."""
    content = saved(scene(), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    assert decode_image(content, "a", 1).shape == (64, 96, 3) and upright_size(content, "a", 1) == (64, 96)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_other_tags_that_make_no_sense_leave_the_orientation(form: str) -> None:
    """Phones write a resolution of 1 / 0 (python-pillow/Pillow, issue 8605)."""
    rows = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 5, 1, 38)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + rows + bytes(4) + struct.pack("<II", 1, 0)
    content = saved(STORED[6](scene()), form, exif=exif)
    assert decode_image(content, "a", 1).shape == (64, 96, 3) and upright_size(content, "a", 1) == (64, 96)


RAMP = np.tile(np.linspace(0, 65535, 96).astype(np.uint16), (64, 1))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_16_bits_the_upper_8_are_shown(form: str, channels: int) -> None:
    pixels = RAMP if channels == 1 else np.repeat(RAMP[..., None], channels, axis=2)
    if channels == 4:
        pixels = pixels.copy()
        pixels[..., 3] = 65535
    content = cv2.imencode({"PNG": ".png", "TIFF": ".tif"}[form], pixels)[1].tobytes()
    assert (decode_image(content, "a", 1) == (RAMP >> 8)[..., None]).all()


def uncompressed(bits: int, data: bytes, width: int, *, order: str = "<", photometric: int = 1, kind: int = 1) -> bytes:
    """A TIFF of one row with such samples."""
    tags = ((256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1))
    rows = b"".join(
        struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in [*tags, (279, len(data)), (339, kind)]
    )
    data += b"\0" * (len(data) % 2)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", 10) + rows + bytes(4)


def test_a_tiff_that_says_that_it_has_12_bits_is_as_bright_as_they_are() -> None:
    content = uncompressed(12, bytes.fromhex("fff000800123"), 4)  # fff 000 800 123
    assert decode_image(content, "a", 1)[0, :, 0].tolist() == [255, 0, 128, 0x12]


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_0_is_white_it_is_white(order: str) -> None:
    """As microscopes write negatives; Pillow turns 8 bits over, but not 16."""
    grey = uncompressed(8, bytes([0, 255, 200, 3]), 4, photometric=0, order=order)
    assert decode_image(grey, "a", 1)[0, :, 0].tolist() == [255, 0, 55, 252]
    if order == "<":
        deep = uncompressed(16, struct.pack("<4H", 0, 65535, 0x1000, 0x80FF), 4, photometric=0)
        assert decode_image(deep, "a", 1)[0, :, 0].tolist() == [255, 0, 0xEF, 0x7F]


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_is_read(order: str) -> None:
    content = uncompressed(16, struct.pack(f"{order}4H", 0, 65535, 0x1000, 0x80FF), 4, order=order)
    assert decode_image(content, "a", 1)[0, :, 0].tolist() == [0, 255, 0x10, 0x80]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tiff(np.zeros((4, 4), np.int32)), "int32"),
        (tiff(np.zeros((4, 4), np.float32)), "float32"),
        (tiff(np.zeros((4, 4), np.float64)), "float64"),
        (tiff(np.zeros((4, 4, 3), np.float32)), "3 channels of float32"),
        (uncompressed(16, bytes(8), 4, kind=2), "int16"),
        (uncompressed(32, bytes(16), 4), "uint32"),
        (uncompressed(16, bytes(8), 4, kind=3), "float16"),
        (saved(Image.new("F", (4, 4)), "TIFF", compression="tiff_adobe_deflate"), "float32"),
        (b"P5\n2 1\n65535\n" + bytes(4), "integer"),
    ],
)
def test_samples_that_are_no_colours_are_refused_by_name(content: bytes, what: str) -> None:
    wanted = rf"^a\.tif holds {what} pixels, .*; convert it to grey or RGB of 8 bits, or to 16 bits"
    with pytest.raises(BadImageFile, match=wanted):
        decode_image(content, "a.tif", 1)
    with pytest.raises(BadImageFile, match=wanted):
        upright_size(content, "a.tif", 1)


def told(*images: np.ndarray, form: str = ".tif") -> str | None:
    depths = Depths()
    for image in images:
        decode_image(cv2.imencode(form, image)[1].tobytes(), "a", 1, depths)
    return depths.warning


@pytest.mark.parametrize("form", [".tif", ".png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_set_of_16_bits_that_stays_under_4096_is_told_once(form: str, channels: int) -> None:
    dark = np.full((4, 4, channels), 4095, np.uint16)
    bright, grey = dark + 1, np.zeros((4, 4, 3), np.uint8)
    assert "all images of 16 bits here (2) stay under 4096 of 65535" in str(told(dark, dark, grey, form=form))
    assert told(dark, bright, form=form) is None and told(grey, form=form) is None and told() is None


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (saved(Image.new("RGB", (4, 4), "red"), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]), "TIFF"),
        (saved(Image.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4))]), "GIF"),
        (
            saved(
                Image.new("RGB", (4, 4), "red"),
                "WEBP",
                save_all=True,
                lossless=True,
                append_images=[Image.new("RGB", (4, 4))],
            ),
            "WEBP",
        ),
        (saved(Image.new("RGB", (4, 4), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), "MPO"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_several_pictures_in_a_file_the_first_counts(content: bytes, first: str) -> None:
    pixels = decode_image(content, first, 1)
    assert pixels.shape == (4, 4, 3) and (np.abs(pixels.astype(int) - (255, 0, 0)) < 3).all()


def with_text(kind: str) -> dict[str, Any]:
    """Options that save a PNG with 3 MB of text or colour profile, as Photoshop and Blender do."""
    info, text = PngImagePlugin.PngInfo(), "x" * 3_000_000
    if kind == "profile":
        return {"icc_profile": text.encode()}
    if kind == "xmp":
        info.add_itxt("XML:com.adobe.xmp", text, zip=True)
    else:
        info.add_text("Raw profile type 8bim", text, zip=True)
    return {"pnginfo": info}


@pytest.mark.parametrize("kind", ["text", "xmp", "profile"])
def test_long_texts_cost_no_png(kind: str) -> None:
    content = saved(scene(), "PNG", **with_text(kind))
    assert (decode_image(content, "a.png", 1) == scene()).all()
    assert upright_size(content, "a.png", 1) == (64, 96) and suffix_of(content) == ".png"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_its_end_is_whole_and_one_that_lacks_more_is_not(progressive: bool) -> None:
    """https://github.com/ultralytics/yolov5/pull/4548: cameras leave the last marker out, and browsers do not mind."""
    content = saved(scene(), "JPEG", progressive=progressive)
    for missing in (1, 2):
        assert (decode_image(content[:-missing], "a.jpg", 1) == decode_image(content, "a.jpg", 1)).all()
    for missing in (8, 20, 200, len(content) - 100):
        with pytest.raises(BadImageFile, match=r"a\.jpg cannot be read"):
            decode_image(content[:-missing], "a.jpg", 1)


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return start + struct.pack(">I", 9) + b"IDAT" + bytes(13)


def damaged_avif() -> bytes:
    content = bytearray(saved(scene(), "AVIF"))
    middle = len(content) - 200
    content[middle : middle + 60] = bytes(range(60))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"a\.jpg cannot be read \(it is empty\); replace the file"),
        (b"<html>", r"a\.jpg cannot be read \(it is no image\); replace the file"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", r"a\.jpg cannot be read \(it is a HEIC photo.+convert it to JPEG\)"),
        (saved(scene(), "JPEG")[:-300], r"a\.jpg cannot be read \(.+\); replace the file"),
        (saved(scene(), "AVIF")[:-100], r"a\.jpg cannot be read \(.+\); replace the file"),
        (damaged_avif(), r"a\.jpg cannot be read \(.+\); replace the file"),
        (png_of(60_000, 60_000), r"a\.jpg has 60000 x 60000 px, over the limit of 1 megapixels"),
    ],
    ids=["empty", "no image", "HEIC", "cut off", "AVIF cut off", "AVIF damaged", "huge"],
)
def test_whatever_is_wrong_with_a_file_is_one_error_that_names_it(content: bytes, reason: str) -> None:
    with pytest.raises(BadImageFile, match=f"^{reason}") as caught:
        decode_image(content, "a.jpg", 1)
    assert "\n" not in str(caught.value)


def test_another_size_than_the_annotations_say_names_both() -> None:
    content = saved(scene(), "PNG")
    assert (decode_checked(content, "a.png", (64, 96), 1) == scene()).all()
    with pytest.raises(BadImageFile, match=r"a\.png is 96 x 64 px, its annotations are for 97 x 64; use the image"):
        decode_checked(content, "a.png", (64, 97), 1)
    with pytest.raises(BadImageFile, match=r"for 64 x 96 \(width and height swapped\)"):
        decode_checked(content, "a.png", (96, 64), 1)


@pytest.mark.parametrize(("suffix", "usual"), [(".jfif", ".jpg"), (".avif", ".avif"), (".tiff", ".tif")])
def test_the_usual_suffix_of_what_a_file_holds(suffix: str, usual: str) -> None:
    form, options = FORMATS[suffix]
    assert suffix_of(saved(scene(), form, **options)) == usual
    assert suffix_of(b"no image") == ""
