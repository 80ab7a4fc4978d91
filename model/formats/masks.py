"""Masks as PNG files, and masks of a part of an image as outlines."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from model.errors import BadRecord
from model.geometry import box_of, mask_to_polygons, polygons_to_mask, rings_to_mask, shifted
from model.image_files import UNREADABLE
from model.records import Polygon


def decode_base64(text: Any) -> bytes:
    """The bytes of base64 text, which may hold line breaks; BadRecord if it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError, AttributeError) as err:
        raise BadRecord(f"wanted base64 text, got {str(text)[:20]!r} ({err}); export the file again") from err


def decode_png(content: bytes, most_hw: tuple[int, int]) -> np.ndarray:
    """Mask (h, w) bool of a PNG: what is not transparent, or if all is opaque, what is not black.

    Raises BadRecord if it is no PNG, and before it takes memory if it is larger than `most_hw`.
    """
    try:
        with Image.open(BytesIO(content), formats=("PNG",)) as image:
            if image.height > most_hw[0] or image.width > most_hw[1]:
                size = f"{image.width} x {image.height}"
                raise BadRecord(f"its mask is {size}, its image {most_hw[1]} x {most_hw[0]} pixels; export it again")
            if image.mode in ("P", "PA", "LA"):
                return _painted(np.asarray(image.convert("RGBA")))
            return _painted(np.asarray(image))
    except UNREADABLE as err:
        raise BadRecord(f"its mask is no image ({err}); export the file again") from err


def _painted(pixels: np.ndarray) -> np.ndarray:
    channels = pixels.reshape(*pixels.shape[:2], -1)  # (h, w, c)
    coloured = (channels[..., :3] > 0).max(2)
    if channels.shape[2] < 4:
        return coloured
    opaque = channels[..., 3] > 0
    return coloured if opaque.all() and coloured.any() else opaque


def encode_png(mask: np.ndarray, mode: str = "1") -> bytes:
    """PNG of a (h, w) bool mask: "1" black and white, "P" or "RGBA" white on transparent ground."""
    image, content = Image.fromarray(mask), BytesIO()
    if mode == "P":
        image = Image.fromarray(mask.astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(content, "PNG", transparency=0, optimize=True)
    else:
        if mode == "RGBA":
            image = Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 4, axis=2))
        image.save(content, "PNG", optimize=True)
    return content.getvalue()


def check_runs(runs: np.ndarray, pixels: int, what: str, whole: str) -> None:
    """BadRecord unless run lengths (n,) int64 cover exactly so many pixels: `what` ("its RLE") those of `whole`."""
    is_right = (
        (runs >= 0) & (runs <= pixels)
    ).all() and runs.sum() == pixels  # single ones first: a sum may wrap around
    if not is_right:
        raise BadRecord(f"{what} covers {sum(runs.tolist())} pixels, {whole} has {pixels}; export the file again")


def mask_parts(mask: np.ndarray, left_top: tuple[int, int], size_hw: tuple[int, int]) -> tuple[Polygon, ...]:
    """Exact outlines of a (h, w) bool mask whose upper left pixel is pixel `left_top` (x, y) of the image.

    What a mask that was moved by hand covers outside of the image is cut off, like that of a polygon. Raises BadRecord
    if nothing is left.
    """
    if not mask.any():
        raise BadRecord("its mask holds no pixel; delete it")
    left, top = left_top
    inside = mask[max(-top, 0) : max(size_hw[0] - top, 0), max(-left, 0) : max(size_hw[1] - left, 0)]
    if not inside.any():
        x0, y0, x1, y1 = box_of(mask) + np.tile(left_top, 2)
        box, size = f"x {x0:g}..{x1:g}, y {y0:g}..{y1:g}", f"{size_hw[1]} x {size_hw[0]}"
        raise BadRecord(f"its mask covers {box}, all outside of its image of {size} pixels; delete it")
    return tuple(shifted(part, np.maximum(left_top, 0.0)) for part in mask_to_polygons(inside, 0))


def apart(parts: tuple[Polygon, ...], size_hw: tuple[int, int]) -> tuple[Polygon, ...]:
    """The same pixels without overlap: where parts cover each other, the even-odd rule would see a hole."""
    if len(parts) == 1:
        return parts
    mask = polygons_to_mask(parts, size_hw)
    rings = [ring for part in parts for ring in (part.exterior, *part.holes)]
    same = not (mask & ~rings_to_mask(rings, size_hw)).any()
    return parts if same else mask_to_polygons(mask, 0)


def has_pixels(part: Polygon, size_hw: tuple[int, int]) -> bool:
    """Whether a part covers a pixel of its image at all."""
    return bool(window_mask((part,), size_hw)[0].any())


def window_mask(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of some parts in the box around their points, (h, w) bool, and its upper left pixel (x, y).

    It costs no more in a large image than in a small one. The box is empty where it lies outside of the image.
    """
    points = np.concatenate([ring for part in parts for ring in (part.exterior, *part.holes)])
    left, top = np.clip(np.floor(points.min(0)), 0, size_hw[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(0)), 0, size_hw[::-1]).astype(int).tolist()
    own = [shifted(part, np.array([-left, -top], float)) for part in parts]
    return polygons_to_mask(own, (bottom - top, right - left)), (left, top)


def cropped_mask(parts: tuple[Polygon, ...], size_hw: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of some parts in their bounding box, (h, w) bool, and its upper left pixel (x, y).

    Raises BadRecord if the parts cover no pixel.
    """
    mask, (left, top) = window_mask(parts, size_hw)
    if not mask.any():
        raise BadRecord("it covers no pixel of its image, and its holes need a mask; delete it")
    x0, y0, x1, y1 = box_of(mask).astype(int).tolist()
    return mask[y0:y1, x0:x1], (left + x0, top + y0)
