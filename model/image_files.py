"""Image files as browsers show them: turned by the camera's orientation, 16 bits as 8, on white, always RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from model.errors import BadImageFile

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an EXIF orientation asks for; Pillow's own exif_transpose also writes the EXIF anew and fails on sloppy ones."""

LYING = (5, 6, 7, 8)
"""Orientations that swap width and height."""

NOT_THE_CAMERA_S = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow looks for an orientation too, and browsers do not."""

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif")
SUFFIXES = {
    **{"AVIF": ".avif", "BMP": ".bmp", "JPEG": ".jpg", "MPO": ".jpg"},
    **{"PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"},
}

OTHER_SUFFIXES = (
    *(".apng", ".arw", ".avifs", ".bif", ".cr2", ".cr3", ".czi", ".dcm", ".dib", ".dng", ".exr", ".gif", ".hdr"),
    *(".heic", ".heif", ".hif", ".ico", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx", ".jxl", ".lif", ".mpo"),
    *(".mrxs", ".nd2", ".ndpi", ".nef", ".orf", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".rw2"),
    *(".scn", ".svg", ".svs", ".tga", ".vsi"),
)
"""Endings of images that are not taken: browsers do not show them, or they hold more than one picture."""

UNREADABLE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, AssertionError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises for broken files; it has no class of its own for them."""

TAG_BITS, TAG_PHOTOMETRIC, TAG_SAMPLES, TAG_SAMPLE_FORMAT = 258, 262, 277, 339
WHITE_IS_ZERO, UNSIGNED, COLOUR_BITS, MOST_CHANNELS = 0, 1, (1, 2, 4, 8, 12, 16), 4
KINDS = {UNSIGNED: "uint", 2: "int", 3: "float"}
"""Tags of TIFF, what is a colour, and what the last of them says of the samples."""

RANGELESS = {"I": "integer", "F": "floating-point"}
"""Pillow's modes of samples that are no colours: nothing says which of them is black and which is white."""

READ = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM")
"""Formats that are read (MPO as JPEG). For EPS Pillow starts another program, and of icons it unpacks a picture of any
size before it tells that."""

JPEG_START, JPEG_END, JPEG_NONSENSE = b"\xff\xd8", b"\xff\xd9", b"\x55" * 64
"""The markers that a JPEG file begins and ends with, and what is none, but some more pixels to a decoder."""

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What telephones' photos say that they are, also those that a program called .jpg without converting them."""

DARK = 16
"""Of 256: no value of 16 bits under 4096 has an upper byte as large."""


class Depths:
    """How bright the images of a set are that have 16 bits a sample, for one warning about all of them."""

    def __init__(self) -> None:
        self.brightest: list[int] = []  # the upper byte, of each image; appended to from any thread

    @property
    def warning(self) -> str | None:
        """One line if all of them stay under 4096, as cameras of 12 bits write them; None if one does not."""
        if not self.brightest or max(self.brightest) >= DARK:
            return None
        return (
            f"all images of 16 bits here ({len(self.brightest)}) stay under 4096 of 65535 and so are nearly black; if "
            "their camera has 12 bits, multiply the pixels by 16 and begin anew with those images"
        )


def suffix_of(content: bytes) -> str:
    """The usual ending of an image file's name, such as ".jpg"; "" if it is no image."""
    try:
        with _open(content) as image:
            return SUFFIXES.get(image.format or "", "")
    except UNREADABLE:
        return ""


def upright_size(content: bytes, name: str, max_megapixels: float) -> tuple[int, int]:
    """The (height, width) that `decode_image` gives, mostly from the header alone; BadImageFile as there."""
    with _opened(content, name, max_megapixels) as image:
        _forget_others(image)
        is_lying = image.format != "TIFF" and _orientation(image) in LYING  # of a TIFF Pillow tells the upright size
        return (image.width, image.height) if is_lying else (image.height, image.width)


def decode_image(content: bytes, name: str, max_megapixels: float, depths: Depths | None = None) -> np.ndarray:
    """RGB uint8 (h, w, 3) of an image file's bytes: of its first picture, if it holds several.

    Of samples of 16 bits the upper 8 are taken; `depths` takes note of them. BadImageFile says what is wrong with
    `name`: it is broken or too large, or nothing says which of its samples are black and which are white.
    """
    try:
        return _decoded(content, name, max_megapixels, depths)
    except BadImageFile:
        if not content.startswith(JPEG_START) or (whole := _ended(content, name, max_megapixels)) is None:
            raise
        return _decoded(whole, name, max_megapixels, depths)


def _decoded(content: bytes, name: str, max_megapixels: float, depths: Depths | None) -> np.ndarray:
    with _opened(content, name, max_megapixels) as image:
        bits, is_deep, is_inverted = _samples(image)
        _forget_others(image)
        image.load()  # which turns a TIFF, and forgets its orientation
        turn = TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I;16"):  # which Pillow would cut at 255; browsers show the upper byte
            samples = (np.asarray(upright) >> (bits - 8)).astype(np.uint8)
            upright = Image.fromarray(~samples if is_inverted else samples)
        if image.format != "TIFF" and upright.has_transparency_data:  # whose fourth band may be anything
            upright = _on_white(upright)
        pixels = np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))
    if depths is not None and is_deep:
        depths.brightest.append(int(pixels.max(initial=0)))
    return pixels


def decode_checked(
    content: bytes, name: str, size_hw: tuple[int, int], max_megapixels: float, depths: Depths | None = None
) -> np.ndarray:
    """As `decode_image`; BadImageFile also if the image is not of the size (h, w) that its annotations are for."""
    pixels = decode_image(content, name, max_megapixels, depths)
    height, width = pixels.shape[:2]
    if (height, width) == size_hw:
        return pixels
    swapped = " (width and height swapped)" if (width, height) == size_hw else ""
    raise BadImageFile(
        f"{name} is {width} x {height} px, its annotations are for {size_hw[1]} x {size_hw[0]}{swapped}; "
        "use the image that was annotated, or correct the size in the annotations"
    )


def _ended(content: bytes, name: str, max_megapixels: float) -> bytes | None:
    """A JPEG file with its last marker, without which cameras write some; None if pixels are missing too.

    After the last pixel anything is passed over until that marker comes; where pixels are missing it would be some.
    """
    begun = content.rstrip(JPEG_END[:1])
    whole, stuffed = begun + JPEG_END, begun + JPEG_NONSENSE + JPEG_END
    try:
        with _opened(whole, name, max_megapixels) as one, _opened(stuffed, name, max_megapixels) as other:
            return whole if one.tobytes() == other.tobytes() else None
    except BadImageFile:
        return None


@contextmanager
def _opened(content: bytes, name: str, max_megapixels: float) -> Iterator[Image.Image]:
    """The image, not decoded yet; whatever is wrong with it, then or in the block, is a BadImageFile."""
    try:
        with _open(content) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                raise BadImageFile(
                    f"{name} has {image.width} x {image.height} px, over the limit of {max_megapixels:g} megapixels; "
                    "make it smaller or raise MAX_IMAGE_MEGAPIXELS"
                )
            if image.mode in RANGELESS:
                raise BadImageFile(_no_colours(name, content) or _rangeless(name, RANGELESS[image.mode]))
            yield image
    except UNREADABLE as err:
        if isinstance(err, UnidentifiedImageError):
            reason = _unknown(content)
            no_colours = _no_colours(name, content)
        else:
            reason, no_colours = " ".join(str(err).split()) or type(err).__name__, None
        raise BadImageFile(no_colours or f"{name} cannot be read ({reason}); replace the file") from err


def _unknown(content: bytes) -> str:
    """What a file is that Pillow does not know."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        return "it is a HEIC photo, whatever its name ends with, which few browsers show: convert it to JPEG"
    return "it is no image" if content else "it is empty"


def _open(content: bytes) -> Image.Image:
    """The image, without Pillow's limits for what the caller limits, and for texts and profiles that browsers take."""
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # one of them may be as long as all together
    return Image.open(io.BytesIO(content), formats=READ)


def _no_colours(name: str, content: bytes) -> str | None:
    """What is wrong with a TIFF file whose samples are no colours, naming what they are; None if they may be some."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if b"+" in content[2:4] else 8])
        stream = io.BytesIO(content)
        stream.seek(tags.next)
        tags.load(stream)  # also where Pillow takes no such image
        bits = sorted({int(number) for number in tags[TAG_BITS]})
        number, kind = int(tags.get(TAG_SAMPLES, 1)), int(tags.get(TAG_SAMPLE_FORMAT, (1,))[0])
    except UNREADABLE:
        return None
    if kind == UNSIGNED and number <= MOST_CHANNELS and set(bits) <= set(COLOUR_BITS):
        return None
    names = ", ".join(f"{KINDS.get(kind, 'samples of ')}{size}" for size in bits)
    return _rangeless(name, f"{number} channels of {names}" if number > 1 else names)


def _rangeless(name: str, what: str) -> str:
    return (
        f"{name} holds {what} pixels, of which nothing says what is black and what is white; convert it to grey or RGB "
        "of 8 bits, or to 16 bits without sign that use the full range"
    )


def _samples(image: Image.Image) -> tuple[int, bool, bool]:
    """Bits of a sample that Pillow gives as 16, whether the file has so many, and whether 0 is white.

    Pillow turns the samples of 8 bits over where 0 is white, not those of 16.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = int(image.tag_v2.get(TAG_BITS, (1,))[0])
        return bits, bits == 16, image.tag_v2.get(TAG_PHOTOMETRIC) == WHITE_IS_ZERO
    if isinstance(image, PngImagePlugin.PngImageFile):
        return 16, any(";16" in str(tile[3]) for tile in image.tile), False
    return 16, False, False


def _on_white(image: Image.Image) -> Image.Image:
    """What is seen of an image that is transparent in parts, whatever colours are hidden there."""
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)


def _forget_others(image: Image.Image) -> None:
    """Leave only the camera's own orientation, and that of AVIF's container, as browsers do."""
    if image.format == "PNG":
        image.load()  # its texts may stand after the pixels
    for key in NOT_THE_CAMERA_S:
        image.info.pop(key, None)


def _orientation(image: Image.Image) -> int:
    """The orientation in the EXIF data; 1 if they tell none or are broken, which costs no browser the image."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except UNREADABLE:
        return 1
