"""Masks to polygons and back, by area: a pixel belongs to an outline when at least half of it lies inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np

from model.records import Polygon

Rule = Callable[[np.ndarray], np.ndarray]
"""From the senses of the crossings along all lines (n,), 1 or -1, to steps: 1 into, -1 out of what is filled."""

SCANLINES = 8  # per pixel row; along a scanline the covered length is exact
HALF = 0.5 - 1e-3  # half of a pixel is often covered exactly, and points come back rounded to 1e-5 % of the image
SMALLEST_IOU = 0.95  # of a simplified part with the part itself
SMALLEST_TOLERANCE_PX = 0.1  # below it the exact outline costs no more


def mask_to_polygons(mask: np.ndarray, tolerance_px: float = 1.0) -> tuple[Polygon, ...]:
    """Outline every connected part of a (h, w) bool mask, with its holes; the largest part comes first.

    Outlines run along the pixels' edges and are then simplified by at most `tolerance_px` (Douglas-Peucker), less
    where a part would otherwise lose more than 5 % of its IoU; 0 keeps every corner and so the exact mask. Pixels
    that touch at a corner are one part. An empty mask has no part.
    """
    if mask.ndim != 2 or tolerance_px < 0:
        raise ValueError(f"wanted a (h, w) mask and a tolerance >= 0, got shape {mask.shape} and {tolerance_px}")
    x0, y0, x1, y1 = box_of(mask).astype(int)
    if x1 == x0:
        return ()
    parts = sorted(_edge_polygons(mask[y0:y1, x0:x1]), key=lambda part: -_area(part.exterior))
    return tuple(shifted(_simplified(part, tolerance_px), np.array([x0, y0], float)) for part in parts)


def polygons_to_mask(parts: Sequence[Polygon], size_hw: tuple[int, int]) -> np.ndarray:
    """Fill the parts of one object: (h, w) bool. Parts may overlap, and may reach out of the image (clipped)."""
    mask = np.zeros(size_hw, bool)
    for part in parts:
        _paint((part.exterior, *part.holes), mask, _alternating)
    return mask


def rings_to_mask(rings: Sequence[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """Fill what an odd number of the rings surrounds (even-odd rule): (h, w) bool.

    A ring is (k, 2) float, closed implicitly; a keyhole ring gives the object with its holes.
    """
    mask = np.zeros(size_hw, bool)
    _paint(rings, mask, _alternating)
    return mask


def painted_polygons(ring: np.ndarray, size_hw: tuple[int, int]) -> tuple[Polygon, ...]:
    """What a ring (k, 2) surrounds if everything that it winds around is filled (non-zero rule), as browsers paint.

    The ring itself where the even-odd rule says the same, as it does unless the ring crosses or repeats itself; else
    the exact outlines of its pixels in an image of that size.
    """
    x0, y0, x1, y1 = _window(ring, size_hw)  # only there: to fill and compare all of a large photo takes its time
    corner, window_hw = np.array([x0, y0]), (y1 - y0, x1 - x0)
    painted = _painted(ring - corner, window_hw)
    if (painted == rings_to_mask((ring - corner,), window_hw)).all():
        return (Polygon(ring),)
    return tuple(shifted(part, corner) for part in mask_to_polygons(painted, tolerance_px=0))


def rings_to_polygons(rings: Sequence[np.ndarray]) -> tuple[Polygon, ...]:
    """Sort rings of one object by the even-odd rule: those inside of an odd number of others are holes.

    Rings are (k, 2) float in any order; a part keeps the place of its outer ring. Rings that cross are parts.
    """
    areas = [_area(ring) for ring in rings]
    around = [
        [other for other in range(len(rings)) if areas[other] > areas[index] and _is_inside(ring, rings[other])]
        for index, ring in enumerate(rings)
    ]
    even = {index for index, outer in enumerate(around) if len(outer) % 2 == 0}
    parts = [index for index, outer in enumerate(around) if index in even or not even.intersection(outer)]
    holes: dict[int, list[np.ndarray]] = {index: [] for index in parts}
    for index, outer in enumerate(around):
        if index not in holes:
            holes[min(even.intersection(outer), key=areas.__getitem__)].append(rings[index])
    return tuple(Polygon(rings[index], tuple(inner)) for index, inner in holes.items())


def without_specks(mask: np.ndarray, size_px: float) -> np.ndarray:
    """A (h, w) bool mask without holes, gaps, bumps and parts that are narrower than `size_px`.

    Closed and opened with a disc, by distances: unlike OpenCV's morphology that takes no longer for a larger disc.
    """
    size = round(size_px) | 1
    if size < 3 or not mask.any():
        return mask
    x0, y0, x1, y1 = box_of(mask).astype(int)
    window = np.s_[max(y0 - size, 0) : y1 + size, max(x0 - size, 0) : x1 + size]
    crop = cv2.copyMakeBorder(mask[window].astype(np.uint8), size, size, size, size, cv2.BORDER_REPLICATE)
    closed = ~_grown(~_grown(crop > 0, size / 2), size / 2)
    opened = _grown(~_grown(~closed, size / 2), size / 2)[size:-size, size:-size]
    if not opened.any():
        return mask
    smooth = np.zeros(mask.shape, bool)  # not zeros_like, which writes each pixel of a large photo
    smooth[window] = opened
    return smooth


def box_of(mask: np.ndarray) -> np.ndarray:
    """The box (4,) float x0, y0, x1, y1 around the pixels of a (h, w) bool mask; all 0 if it is empty."""
    if mask.flags.f_contiguous and not mask.flags.c_contiguous:  # as COCO's lie: OpenCV would turn all of it over
        return box_of(mask.T)[[1, 0, 3, 2]]
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return np.array([x, y, x + width, y + height], float)


def shifted(part: Polygon, by_xy: np.ndarray) -> Polygon:
    """The part moved by (2,) pixels x, y."""
    return Polygon(part.exterior + by_xy, tuple(hole + by_xy for hole in part.holes))


def keyhole(polygon: Polygon) -> np.ndarray:
    """Draw a part and its holes as one (k, 2) ring, the way Label Studio shows holes.

    Holes run against the outline's sense, so that they are holes by the non-zero rule too.
    """
    ring = polygon.exterior
    sense = _signed_area(ring)
    for hole in polygon.holes:
        ring = _bridged(ring, hole[::-1] if _signed_area(hole) * sense > 0 else hole)
    return ring


def seamed(parts: Sequence[Polygon]) -> np.ndarray:
    """Draw all parts of an object with their holes as one (k, 2) ring, joined by seams that have no area.

    The pixels are the same by either rule if the parts do not overlap: all run in one sense.
    """
    ring = keyhole(parts[0])
    for part in parts[1:]:
        other = keyhole(part)
        is_against = _signed_area(part.exterior) * _signed_area(parts[0].exterior) < 0
        ring = _bridged(ring, other[::-1] if is_against else other)
    return ring


def unseamed(ring: np.ndarray) -> tuple[Polygon, ...]:
    """The parts and holes of which `seamed` or another tool made one ring (k, 2), in any order.

    A seam is an edge that is walked there and back, between exactly the same two points. What the rings surround by
    the even-odd rule is what the one ring does. A ring that only touches itself stays as it is.
    """
    rings: list[np.ndarray] = []
    path: list[tuple[float, float]] = []
    starts: dict[tuple[tuple[float, float], tuple[float, float]], int] = {}  # of the edges along the path
    for x, y in np.concatenate([ring, ring[:1]]).tolist():
        if path and path[-1] == (x, y):
            continue
        start = starts.get(((x, y), path[-1])) if path else None
        if start is None:
            if path:
                starts[path[-1], (x, y)] = len(path) - 1
            path.append((x, y))
            continue
        rings.append(np.array(path[start + 1 : -1]))
        for edge in pairwise(path[start:]):
            starts.pop(edge, None)
        del path[start + 1 :]
    rings.insert(0, np.array(path[:-1]))
    drawn = [points for points in rings if len(points) >= 3]
    return rings_to_polygons(drawn) if len(drawn) > 1 else (Polygon(drawn[0] if drawn else ring),)


def _bridged(ring: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two rings (k, 2) as one: the first, its first point again, the other, its first point again.

    Both start at the points nearest to each other, so that the bridge between them (walked twice, no area) is short.
    """
    distances = [((ring - point) ** 2).sum(1) for point in other]  # one (k,) for each point: k * m may be large
    start = int(np.argmin([distance.min() for distance in distances]))
    ring = np.roll(ring, -int(distances[start].argmin()), axis=0)
    other = np.roll(other, -start, axis=0)
    return np.concatenate([ring, ring[:1], other, other[:1]])


def _edge_polygons(mask: np.ndarray) -> Iterable[Polygon]:
    """Parts of a mask with every corner of their pixels' edges."""
    # Doubled, each pixel has its own left and right, upper and lower half: from the half that a contour runs
    # through we know which edge of the pixel it means. At single size a one-pixel line would be its own way back.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [_corners((contour[:, 0].astype(np.int64) + 1) // 2) for contour in contours]
    for index, (_, _, hole, parent) in enumerate(hierarchy[0]):
        if parent != -1:
            continue
        holes = []
        while hole != -1:
            holes.append(rings[hole])
            hole = hierarchy[0][hole][0]
        yield Polygon(rings[index], tuple(holes))


def _corners(ring: np.ndarray) -> np.ndarray:
    """Keep the points of a (k, 2) ring at which it turns."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    corners: np.ndarray = ring[turns].astype(float)
    return corners


def _simplified(part: Polygon, tolerance_px: float) -> Polygon:
    """The part with fewer points: the largest halving of the tolerance that keeps SMALLEST_IOU, at worst the part.

    By either filling rule: a simplified ring may cross itself.
    """
    size_hw = (int(part.exterior[:, 1].max()), int(part.exterior[:, 0].max()))
    exact = None
    while tolerance_px >= SMALLEST_TOLERANCE_PX:
        rings = [_thinned(_chamfered(ring), tolerance_px) for ring in (part.exterior, *part.holes)]
        if all(len(ring) >= 3 for ring in rings):
            exact = rings_to_mask((part.exterior, *part.holes), size_hw) if exact is None else exact
            simple = Polygon(rings[0], tuple(rings[1:]))
            shown = rings_to_mask(rings, size_hw), _painted(keyhole(simple), size_hw)
            if min(_iou(mask, exact) for mask in shown) >= SMALLEST_IOU:
                return simple
        tolerance_px /= 2
    return part


def _painted(ring: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """What a ring (k, 2) fills by the non-zero rule: (h, w) bool."""
    mask = np.zeros(size_hw, bool)
    _paint((ring,), mask, _wound)
    return mask


def _chamfered(ring: np.ndarray) -> np.ndarray:
    """A ring along pixel edges with half a pixel cut off at each corner: stairs become the slope they stand for."""
    step = np.roll(ring, -1, axis=0) - ring
    length = np.abs(step).sum(1, keepdims=True)  # edges are horizontal or vertical, and at least 1 long
    cut = step / length * 0.5
    points = np.stack([ring + cut, ring + step - cut], axis=1).reshape(-1, 2)
    different: np.ndarray = points[(points != np.roll(points, 1, axis=0)).any(1)]
    return different


def _thinned(ring: np.ndarray, tolerance_px: float) -> np.ndarray:
    return cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance_px, closed=True)[:, 0].astype(float)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _area(ring: np.ndarray) -> float:
    """Area inside a (k, 2) ring in square pixels (shoelace formula)."""
    return abs(_signed_area(ring))


def _signed_area(ring: np.ndarray) -> float:
    """Area inside a (k, 2) ring in square pixels, negative for one sense of the ring."""
    x, y = ring.T
    return float(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2


def _is_inside(ring: np.ndarray, other: np.ndarray) -> bool:
    """Whether no point of a (k, 2) ring lies outside of the other ring, and one not even on it."""
    contour = other.astype(np.float32)[:, None]
    sides = [cv2.pointPolygonTest(contour, (float(x), float(y)), False) for x, y in ring]
    middle = ring.mean(0)
    return min(sides) >= 0 and (max(sides) > 0 or cv2.pointPolygonTest(contour, tuple(map(float, middle)), False) > 0)


def _grown(mask: np.ndarray, by_px: float) -> np.ndarray:
    """The (h, w) bool mask and all pixels that are as near to it as that."""
    distances = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return distances <= by_px


def _window(points: np.ndarray, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels x0, y0, x1, y1 of an image of that size among which points (n, 2) lie; none where x0 is x1."""
    upper = np.array(size_hw[::-1])
    x0, y0 = np.clip(np.floor(points.min(0)), 0, upper).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(points.max(0)), 0, upper).astype(int).tolist()
    return x0, y0, x1, y1


def _paint(rings: Sequence[np.ndarray], mask: np.ndarray, rule: Rule) -> None:
    """Set the pixels of a (h, w) mask that rings cover by half or more; only their bounding box is looked at."""
    x0, y0, x1, y1 = _window(np.concatenate(rings), (mask.shape[0], mask.shape[1]))
    if x0 >= x1 or y0 >= y1:
        return
    origin = np.array([x0, y0])
    shares = _coverage([ring - origin for ring in rings], y1 - y0, x1 - x0, rule)
    mask[y0:y1, x0:x1] |= shares >= HALF


def _coverage(rings: Sequence[np.ndarray], height: int, width: int, rule: Rule) -> np.ndarray:
    """Share of each pixel that lies inside: (height, width) float, 0..1.

    The rule says at which crossings a scanline comes inside (1), leaves (-1) or neither (0). A crossing at x = 3.2
    covers 0.8 of pixel 3 and all after it: noted as a step of 0.8 there and 0.2 in the next, summed up along the row
    at the end.
    """
    lines, xs, senses = _crossings(rings, height * SCANLINES)
    order = np.lexsort((xs, lines))
    rows, xs = lines[order] // SCANLINES, np.clip(xs[order], 0, width)
    signs = rule(senses[order]) / SCANLINES
    columns = np.floor(xs).astype(np.int64)
    after = xs - columns
    cells = rows * (width + 2) + columns  # two columns more than there are: x = width steps outside of the image
    size = height * (width + 2)
    steps = np.bincount(cells, signs * (1 - after), size) + np.bincount(cells + 1, signs * after, size)
    return steps.reshape(height, width + 2).cumsum(1)[:, :width]


def _alternating(senses: np.ndarray) -> np.ndarray:
    """Even-odd rule: inside between an odd crossing and the next; each line is crossed an even number of times."""
    return np.where(np.arange(len(senses)) % 2 == 0, 1.0, -1.0)


def _wound(senses: np.ndarray) -> np.ndarray:
    """Non-zero rule: inside where more crossings went one way than the other; at each line's end they are even."""
    inside = senses.cumsum() != 0
    return inside.astype(float) - np.concatenate([[False], inside[:-1]]).astype(float)


def _crossings(rings: Sequence[np.ndarray], num_lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rings' edges cross the scanlines y = (i + 0.5) / SCANLINES: i, x, 1 downwards or -1 upwards, (n,)."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # half-open: of two edges that meet on a scanline exactly one crosses it
    first = np.clip(np.ceil(low * SCANLINES - 0.5), 0, num_lines).astype(np.int64)
    last = np.clip(np.ceil(high * SCANLINES - 0.5), 0, num_lines).astype(np.int64)
    counts = last - first
    edges = np.repeat(np.arange(len(start)), counts)
    lines = np.arange(len(edges)) - np.repeat(counts.cumsum() - counts, counts) + first[edges]
    (x, y), (dx, dy) = start[edges].T, (end - start)[edges].T
    return lines, x + ((lines + 0.5) / SCANLINES - y) * dx / dy, np.sign(dy).astype(np.int64)
