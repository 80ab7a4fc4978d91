"""Image files as browsers show them: turned by the camera's orientation, 16 bits as 8, always RGB."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

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

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SUFFIXES = {"BMP": ".bmp", "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"}

BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(struct.error, zlib.error),
)
"""What Pillow raises for broken files; it has no class of its own for them."""


def suffix_of(content: bytes) -> str:
    """The usual ending of an image file's name, such as ".jpg"; "" if it is no image."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return SUFFIXES.get(image.format or "", "")
    except BROKEN:
        return ""


def decode_image(content: bytes, name: str, max_megapixels: float) -> np.ndarray:
    """RGB uint8 (h, w, 3) of an image file's bytes; BadImageFile says what is wrong with `name`."""
    Image.MAX_IMAGE_PIXELS = None  # the limit is the caller's
    try:
        with Image.open(io.BytesIO(content)) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > max_megapixels:
                raise BadImageFile(
                    f"{name} has {image.width} x {image.height} px, over the limit of {max_megapixels:g} megapixels; "
                    "make it smaller or raise MAX_IMAGE_MEGAPIXELS"
                )
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
            upright = image if turn is None else image.transpose(turn)
            if upright.mode.startswith("I;16"):  # which Pillow would cut at 255; browsers show the upper byte
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except BROKEN as err:
        reason = "it is no image" if isinstance(err, UnidentifiedImageError) else err
        raise BadImageFile(f"{name} cannot be read ({reason}); replace the file") from err
