"""Points, rectangles and ellipses of the formats as outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.errors import BadRecord
from model.formats.problems import Tell
from model.records import Polygon

ARC_PX = 0.05  # how far the sides of a drawn ellipse may lie off it
FEWEST_POINTS = 3  # of what has an area
FEWEST_CORNERS, MOST_CORNERS = 16, 720


def ring(points: Any) -> np.ndarray:
    """[[x, y], ...] as (k, 2) float, a repeated first point at the end left out; BadRecord if they are no points."""
    array = np.asarray(points, float)
    if array.ndim != 2 or array.shape[1] != 2:
        raise BadRecord(f"wanted points [[x, y], ...], got {str(points)[:60]}; export the file again")
    return array[:-1] if len(array) > 3 and (array[0] == array[-1]).all() else array


def parts_of(polygons: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]], tell: Tell) -> tuple[Polygon, ...]:
    """The parts of one object from their outer rings, each with its holes, all (k, 2).

    Rings of fewer than three different points, clicks that went wrong, cover nothing: they are left out and told in one
    line each for parts and holes. BadRecord if no part is left.
    """
    kept = [(outer, holes) for outer, holes in polygons if _has_area(outer)] or polygons
    _tell_lost(len(polygons) - len(kept), len(polygons), "parts", tell)
    parts = []
    for outer, holes in kept:
        drawn = [hole for hole in holes if _has_area(hole)]
        _tell_lost(len(holes) - len(drawn), len(holes), "holes", tell)
        parts.append(Polygon(outer, tuple(drawn)))
    return tuple(parts)


def _has_area(points: np.ndarray) -> bool:
    return len(np.unique(points, axis=0)) >= FEWEST_POINTS


def _tell_lost(lost: int, rings: int, what: str, tell: Tell) -> None:
    if lost:
        tell(f"{lost} of its {rings} {what} left out: fewer than 3 points cover nothing; complete or delete them")


def rectangle(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Polygon:
    """The box between two opposite corners, turned clockwise around its middle; BadRecord if it has no area."""
    if x0 == x1 or y0 == y1:
        raise BadRecord(f"its box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) has no area; delete it")
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return Polygon(_turned(corners, corners.mean(0), degrees))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Polygon:
    """The ellipse around (x, y), turned clockwise, with so many corners that they are not seen."""
    larger = max(radius_x, radius_y)
    if not (radius_x > 0 and radius_y > 0 and math.isfinite(larger)):
        raise BadRecord(f"its ellipse has the radii {radius_x:g} and {radius_y:g}, wanted more than 0; delete it")
    wanted = math.ceil(math.pi / math.acos(1 - min(ARC_PX / larger, 1)))
    angles = np.linspace(0, 2 * np.pi, min(max(wanted, FEWEST_CORNERS), MOST_CORNERS), endpoint=False)
    points = np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)
    return Polygon(_turned(points, np.array([x, y]), degrees))


def _turned(points: np.ndarray, middle: np.ndarray, degrees: float) -> np.ndarray:
    """(k, 2) points turned clockwise as seen on the screen, where y runs down."""
    if not degrees:
        return points
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: np.ndarray = (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    return turned
