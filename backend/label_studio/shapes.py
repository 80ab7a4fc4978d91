"""What each kind of region outlines: from Label Studio's values to polygons in pixels."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from label_studio_sdk.converter import brush

from model.errors import BadRecord
from model.geometry import mask_to_polygons, painted_polygons
from model.records import Polygon

UNREADABLE = (BadRecord, LookupError, TypeError, ValueError, ArithmeticError, cv2.error)
"""What a region raises that is not as Label Studio writes it, as programs send them."""

ANY_SIZE = (100, 100)
"""Of an image whose pixels are its percent."""


def read_rectangle(region: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """The corners (4, 2) of a rectangle region in pixels of an image of that size; BadRecord if it is empty."""
    return _rectangle(region["value"], size_hw)[0].exterior


def _polygon(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """What Label Studio paints: all that the outline winds around, so that crossing itself makes no hole."""
    ring = _points(value).exterior * np.array([size_hw[1], size_hw[0]]) / 100
    return list(painted_polygons(Polygon(ring).exterior, size_hw))


def _points(value: dict[str, Any]) -> Polygon:
    """An outline in percent; BadRecord for one that was begun only, which Label Studio shows as a line."""
    outline = Polygon(np.asarray(value["points"], float).reshape(-1, 2))
    if value.get("closed") is False:
        raise BadRecord("its polygon is not closed, so part of the outline may be missing; close it or delete it")
    return _in_image(outline, ANY_SIZE)


def _brush(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    held = int.from_bytes(_rle(value)[:4], "big")  # bytes of RGBA, which are not decoded in vain
    if held != size_hw[0] * size_hw[1] * 4:
        raise BadRecord(f"its brush mask holds {held // 4} pixels, the image {size_hw[0] * size_hw[1]}; draw it again")
    try:
        flat = brush.decode_rle(value["rle"])
    except (ValueError, IndexError, OverflowError) as err:
        raise BadRecord(f"its brush mask is broken ({err}); draw it again") from err
    return _parts(flat.reshape(*size_hw, 4)[..., 3] > 0)


def _bitmask(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """What is not transparent in a PNG (`data:image/png;base64,...`); in one without transparency what has a colour.

    Label Studio paints in black on nothing: what is black all over is painted all over.
    """
    content = np.frombuffer(_png(value), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if pixels is None:
        raise BadRecord("its bitmask is no image that can be read; draw it again")
    if pixels.shape[:2] != size_hw:
        raise BadRecord(
            f"its bitmask has {pixels.shape[1]} x {pixels.shape[0]} px, the image {size_hw[1]} x {size_hw[0]}; "
            "draw it again"
        )
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    alpha = layers[..., 3] if layers.shape[2] == 4 else None
    is_opaque = alpha is None or alpha.min() == np.iinfo(alpha.dtype).max
    if alpha is not None and not is_opaque:
        return _parts(alpha > 0)
    coloured = layers[..., :3].any(2)
    return _parts(coloured if coloured.any() else ~coloured)


def _parts(mask: np.ndarray) -> list[Polygon]:
    """The exact outlines of a mask (h, w) bool; BadRecord if nothing of it is left."""
    if not mask.any():
        raise BadRecord("nothing of its mask is left; draw it again or delete it")
    return list(mask_to_polygons(mask, tolerance_px=0))


def _png(value: dict[str, Any]) -> bytes:
    head, _, coded = str(value["imageDataURL"]).partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadRecord("its bitmask is no data:image/png;base64 address; draw it again")
    try:
        return base64.b64decode(coded, validate=True)
    except binascii.Error as err:
        raise BadRecord(f"its bitmask is no base64 ({err}); draw it again") from err


def _ellipse(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    """A polygon of so many corners that it lies nowhere more than ELLIPSE_PX inside of the ellipse."""
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    radii = np.array([float(value["radiusX"]), float(value["radiusY"])]) * scale
    if not radii.all():
        raise BadRecord(
            f"its ellipse has the radii {value['radiusX']} and {value['radiusY']} %; delete it or draw it larger"
        )
    corners = max(12, math.ceil(math.pi / math.acos(max(0.0, 1 - ELLIPSE_PX / np.abs(radii).max()))))
    turns = np.arange(corners) * 2 * math.pi / corners
    points = np.stack([np.cos(turns), np.sin(turns)], 1) * radii
    return [_in_image(Polygon(points @ _turn(value) + np.array([value["x"], value["y"]], float) * scale), size_hw)]


def _rectangle(value: dict[str, Any], size_hw: tuple[int, int]) -> list[Polygon]:
    scale = np.array([size_hw[1], size_hw[0]]) / 100
    width, height = value["width"], value["height"]
    if not width or not height:  # one that was drawn upwards has a height below 0
        raise BadRecord(f"its rectangle is {width} by {height} %; delete it or draw it larger")
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) * scale
    return [_in_image(Polygon(corners @ _turn(value) + np.array([value["x"], value["y"]], float) * scale), size_hw)]


def _in_image(part: Polygon, size_hw: tuple[int, int]) -> Polygon:
    """The outline; BadRecord if it lies beside the image, where nobody sees it, as what programs write in pixels."""
    points = part.exterior * 100 / np.array([size_hw[1], size_hw[0]])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    if x1 <= 0 or y1 <= 0 or x0 >= 100 or y0 >= 100:
        raise BadRecord(
            f"it lies outside of its image, x {x0:g}..{x1:g} %, y {y0:g}..{y1:g} %; delete it and draw it again"
        )
    return part


def _turn(value: dict[str, Any]) -> np.ndarray:
    """The matrix (2, 2) that turns rows of points by a value's `rotation`, degrees clockwise."""
    angle = math.radians(value.get("rotation") or 0)
    return np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


ELLIPSE_PX = 0.05

READERS: dict[str, Callable[[dict[str, Any], tuple[int, int]], list[Polygon]]] = {
    "PolygonLabels": _polygon,
    "BrushLabels": _brush,
    "BitmaskLabels": _bitmask,
    "RectangleLabels": _rectangle,
    "EllipseLabels": _ellipse,
}


def _rle(value: dict[str, Any]) -> bytes:
    """The run lengths of a brush mask as Label Studio packs them, which begin with the number of values."""
    if not isinstance(value["rle"], list) or not value["rle"]:
        raise BadRecord("its brush mask is empty; draw it again or delete it")
    try:
        return bytes(value["rle"])
    except (TypeError, ValueError) as err:
        raise BadRecord(
            "its brush mask is no bytes of Label Studio's run lengths (COCO's are others); convert it, or draw it again"
        ) from err


CHECKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "PolygonLabels": _points,
    "BrushLabels": _rle,
    "BitmaskLabels": _png,
    "RectangleLabels": lambda value: _rectangle(value, ANY_SIZE),
    "EllipseLabels": lambda value: _ellipse(value, ANY_SIZE),
}
"""What can be said of a region's value without its image, at little cost."""
