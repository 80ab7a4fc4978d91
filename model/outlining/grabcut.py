"""GrabCut (Rother et al. 2004): the outline of whatever is in a box, from the image's own colours.

It needs no training, so it answers before the first version. What it computes is bounded: a window around the box is
scaled to at most SIDE pixels. A small window is enlarged, as few pixels make poor colour models. Left alone, GrabCut at
times gives up all of an object; so where its answer does not span the box, it is tried again with the middle of the box
given as the object's, and the answer that spans more of the box is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from model.errors import NoOutline
from model.geometry import box_of
from model.outlining.base import Click

SIDE, CLICK_SIDE = 128, 64
"""Longest side of the window that is computed, pixels; a click needs several windows."""

ENLARGED = 4.0
"""A window's pixels become at most so many along a side."""

ITERATIONS = 2
SEED = 0

SPANS = 0.75
"""An answer whose own box covers this share of the drawn one is taken at once."""

WHOLE = 0.97
"""From this share of the box on an answer is the box itself."""

LEAST, FAINT = 0.02, 0.5
"""Contrasts below which an answer is none, and below which the box itself is none."""

MORE_THAN_GIVEN = 1.25
"""An answer that is not so many times as large as what was given as the object's is none."""

SMALLEST_PX = 12.0
"""Side of the smallest box that is tried at a click."""

BOXES, BOXES_OF_KNOWN_SIDE = 9, 5
SIDES_OF_KNOWN = (0.7, 2.5)
"""Sides of the boxes tried at a click, as shares of the side that objects of this kind have."""

SPREAD = 0.7
"""Of the logarithm of an object's side about that of its kind."""

LOOSE, SAME = 0.06, 0.6
"""Of the box that is drawn around the answer to a click: its distance, a share of the sides; and the IoU from which on
its answer is the same object."""

SECTORS = 12
"""Of an outline's surroundings; an object stands out if it does so nearly all around."""

OBJECT, NOT_OBJECT = (cv2.GC_FGD, cv2.GC_PR_FGD), cv2.GC_BGD


@dataclass(frozen=True)
class Trial:
    """What is assumed of a box before GrabCut begins.

    margin   of the window around the box, a share of its sides; what lies there is certainly not the object
    core     the ellipse of this share of the box's axes is certainly the object
    reach    what lies beyond the ellipse of this share is probably not the object
    """

    margin: float
    core: float
    reach: float = math.inf


TRIALS = (Trial(0.25, 0.0), Trial(0.25, 0.4, 1.0))
AT_CLICK = Trial(0.15, 0.3, 0.7)


@dataclass(frozen=True, eq=False)
class _Window:
    """A part of an image, scaled: RGB uint8 (h, w, 3), its corner and size (2,) in the image, and the box in it."""

    pixels: np.ndarray
    corner_xy: np.ndarray
    size_xy: np.ndarray
    box_xyxy: np.ndarray

    def place(self, points_xy: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the image in the window's pixels."""
        scale = np.array(self.pixels.shape[1::-1]) / self.size_xy
        return np.asarray((points_xy - self.corner_xy) * scale)

    def whole(self, mask: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """A mask (h, w) of the window as one of the image."""
        (x, y), (width, height) = self.corner_xy.astype(int), self.size_xy.astype(int)
        large = cv2.resize(mask.astype(np.float32), (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
        whole = np.zeros(size_hw, bool)
        whole[y : y + height, x : x + width] = large >= 0.5
        return whole


class GrabCut:
    """See `base.Outliner`."""

    classes: tuple[str, ...] = ()

    def look(self, image: np.ndarray) -> np.ndarray:
        """The image itself."""
        return image

    def in_box(self, seen: np.ndarray, box_xyxy: np.ndarray, label: int | None = None) -> np.ndarray:
        """The largest connected part that differs from what is around the box, without holes."""
        best, best_span, window = None, 0.0, None
        for trial in TRIALS:
            window = _window(seen, box_xyxy, trial.margin, SIDE)
            found = _cut(window, trial, ITERATIONS)
            span = _span(found, window)
            if span > best_span and _is_answer(found, window, trial):
                best, best_span = window.whole(found, seen.shape[:2]), span
            if best_span >= SPANS:
                break
        if best is None or not best.any():
            raise NoOutline(
                "nothing in the box differs in colour from what is around it; outline this object by hand, or draw the "
                "box less tightly"
            )
        return best

    def at_point(self, seen: np.ndarray, click: Click, label: int | None = None) -> np.ndarray:
        """What stands out most from its surroundings, of the answers for boxes of several sizes around the point.

        Then it is outlined more finely, as if somebody had drawn a box around it.
        """
        best, best_score = None, 0.0
        for side in _sides(click, max(seen.shape[:2])):
            window = _window(seen, _square(click.point_xy, side, seen.shape[:2]), AT_CLICK.margin, CLICK_SIDE)
            found = _cut(window, AT_CLICK, ITERATIONS, window.place(click.not_on_xy))
            is_there = _covers(found, window.place(click.point_xy[None]))
            if not is_there or not _is_answer(found, window, AT_CLICK) or _share(found, window) >= WHOLE:
                continue
            score = _contrast(window.pixels, found) * (1 - _cut_off(found, window, seen.shape[:2])) ** 4
            whole = window.whole(found, seen.shape[:2])
            score *= _likeness(whole, click.side_px)
            if score > best_score and whole.any() and not _covers(whole, click.not_on_xy):
                best, best_score = whole, score
        if best is None:
            raise NoOutline(
                "nothing at the click stands out from its surroundings; draw a box around the object with a smart "
                "rectangle, or outline it by hand"
            )
        return self._finer(seen, best, click)

    def _finer(self, seen: np.ndarray, mask: np.ndarray, click: Click) -> np.ndarray:
        """The same object (h, w) bool as an answer to a box around it; the mask as it is if that is another object."""
        box = box_of(mask)
        around = LOOSE * np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1)
        height, width = mask.shape
        try:
            finer = self.in_box(seen, (box + around).clip(0, (width, height, width, height)))
        except NoOutline:
            return mask
        is_same = (finer & mask).sum() > SAME * (finer | mask).sum()
        is_meant = _covers(finer, click.point_xy[None]) and not _covers(finer, click.not_on_xy)
        return finer if is_same and is_meant else mask


def _sides(click: Click, longest_px: int) -> np.ndarray:
    """Sides of the boxes that are tried, pixels, the smallest first."""
    if click.side_px is None:
        return np.geomspace(SMALLEST_PX, 1.6 * longest_px, BOXES)
    low, high = (share * click.side_px for share in SIDES_OF_KNOWN)
    return np.geomspace(max(low, 3), max(high, SMALLEST_PX), BOXES_OF_KNOWN_SIDE)


def _square(centre_xy: np.ndarray, side_px: float, size_hw: tuple[int, ...]) -> np.ndarray:
    height, width = size_hw[:2]
    box = np.concatenate([centre_xy - side_px / 2, centre_xy + side_px / 2])
    return np.asarray(box.clip(0, (width, height, width, height)))


def _window(image: np.ndarray, box_xyxy: np.ndarray, margin: float, longest_px: int) -> _Window:
    """The box with a margin around it, as far as the image goes, scaled so that its longest side is that long."""
    around = np.maximum(margin * (box_xyxy[2:] - box_xyxy[:2]), 2)
    low = np.floor(np.maximum(box_xyxy[:2] - around, 0)).astype(int)
    high = np.ceil(np.minimum(box_xyxy[2:] + around, image.shape[1::-1])).astype(int)
    scale = min(longest_px / (high - low).max(), ENLARGED)
    size = np.maximum(np.round((high - low) * scale), 3).astype(int)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(image[low[1] : high[1], low[0] : high[0]], tuple(size.tolist()), interpolation=how)
    unplaced = _Window(pixels, low, high - low, box_xyxy)
    return replace(unplaced, box_xyxy=unplaced.place(box_xyxy.reshape(2, 2)).ravel())


def _cut(window: _Window, trial: Trial, iterations: int, not_on_xy: np.ndarray | None = None) -> np.ndarray:
    """GrabCut's object (h, w) bool: its largest connected part without holes, empty if there is none."""
    given = _given(window, trial)
    for x, y in np.zeros((0, 2)) if not_on_xy is None else not_on_xy:
        cv2.circle(given, (int(x), int(y)), 1, cv2.GC_BGD, -1)
    if not np.isin(given, OBJECT).any():
        return np.zeros(given.shape, bool)
    cv2.setRNGSeed(SEED)  # its first clusters are drawn at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(window.pixels, given, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    return _largest(np.isin(given, OBJECT))


def _given(window: _Window, trial: Trial) -> np.ndarray:
    """What is assumed of each pixel, (h, w) uint8 of OpenCV's four kinds; the window's rim is never the object."""
    height, width = window.pixels.shape[:2]
    (x0, y0, x1, y1), rows = window.box_xyxy, np.arange(height)[:, None] + 0.5
    columns = np.arange(width)[None] + 0.5
    inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)  # (h, w)
    away = ((columns - (x0 + x1) / 2) / ((x1 - x0) / 2)) ** 2 + ((rows - (y0 + y1) / 2) / ((y1 - y0) / 2)) ** 2
    given = np.where(inside, np.where(away > trial.reach**2, cv2.GC_PR_BGD, cv2.GC_PR_FGD), NOT_OBJECT).astype(np.uint8)
    given[inside & (away < trial.core**2)] = cv2.GC_FGD
    if not (given == NOT_OBJECT).any():
        given[[0, -1]] = given[:, [0, -1]] = NOT_OBJECT
    return given


def _is_answer(found: np.ndarray, window: _Window, trial: Trial) -> bool:
    """Whether the colours say more than was assumed: not the core alone, nor the whole box unless it stands out."""
    share = _share(found, window)
    if share <= MORE_THAN_GIVEN * math.pi / 4 * trial.core**2:
        return False
    return _contrast(window.pixels, found) > (FAINT if share >= WHOLE else LEAST)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask (h, w) bool, without its holes."""
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    if rings:
        cv2.drawContours(filled, [max(rings, key=cv2.contourArea)], -1, 1, -1)
    return filled.astype(bool)


def _share(found: np.ndarray, window: _Window) -> float:
    """Share of the box that is the object."""
    return float(found.sum() / np.prod(window.box_xyxy[2:] - window.box_xyxy[:2]))


def _span(found: np.ndarray, window: _Window) -> float:
    """Share of the box that the box around the object covers."""
    own = box_of(found)
    return float(np.prod(own[2:] - own[:2]) / np.prod(window.box_xyxy[2:] - window.box_xyxy[:2]))


def _covers(mask: np.ndarray, points_xy: np.ndarray) -> bool:
    """Whether one of the points (n, 2) lies on a mask (h, w) bool."""
    last = np.array(mask.shape[::-1]) - 1
    columns, rows = np.floor(points_xy).astype(int).clip(0, last).T
    return bool(mask[rows, columns].any())


def _cut_off(found: np.ndarray, window: _Window, size_hw: tuple[int, ...]) -> float:
    """Share of the box's rim that the object runs into, where the image goes on."""
    x0, y0, x1, y1 = np.round(window.box_xyxy).astype(int)
    last = np.array(found.shape[::-1])
    ends = window.corner_xy + window.size_xy
    rims = (
        (found[:, max(x0 - 1, 0) : x0 + 2].any(1), window.corner_xy[0] > 0 or x0 > 0),
        (found[:, x1 - 2 : x1 + 1].any(1), ends[0] < size_hw[1] or x1 < last[0]),
        (found[max(y0 - 1, 0) : y0 + 2].any(0), window.corner_xy[1] > 0 or y0 > 0),
        (found[y1 - 2 : y1 + 1].any(0), ends[1] < size_hw[0] or y1 < last[1]),
    )
    touched = sum(float(rim.sum()) for rim, goes_on in rims if goes_on)
    return min(1.0, touched / max(2.0 * float((x1 - x0) + (y1 - y0)), 1.0))


def _contrast(pixels: np.ndarray, found: np.ndarray) -> float:
    """How far an object's rim differs from what is just outside of it, in units of their spread.

    The lower quartile over SECTORS of the outline: an object differs from its surroundings on nearly all sides.
    """
    x0, y0, x1, y1 = box_of(found)
    width = max(2.0, 0.08 * max(x1 - x0, y1 - y0))
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    inner, outer = _depth(found), _depth(~found)
    inside, outside = found & (inner <= width), ~found & (outer <= width)
    if inside.sum() < SECTORS or outside.sum() < SECTORS:
        return 0.0
    sector = _sectors(found, np.array([(x0 + x1) / 2, (y0 + y1) / 2]))
    steps = [
        np.linalg.norm(colours[inside & (sector == k)].mean(0) - colours[outside & (sector == k)].mean(0))
        for k in range(SECTORS)
        if (inside & (sector == k)).any() and (outside & (sector == k)).any()
    ]
    spread = sum(math.sqrt(float(colours[part].var(0).sum())) for part in (inside, outside))
    return float(np.quantile(steps, 0.25)) / (spread + 4.0) if steps else 0.0


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a mask (h, w) bool from the rest, pixels; the window's rim does not count."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3))


def _sectors(found: np.ndarray, centre_xy: np.ndarray) -> np.ndarray:
    """Sector (h, w) of each pixel about a centre, 0..SECTORS - 1."""
    rows, columns = np.indices(found.shape)
    turns = np.arctan2(rows + 0.5 - centre_xy[1], columns + 0.5 - centre_xy[0]) / (2 * np.pi) + 0.5
    return np.asarray(np.floor(turns * SECTORS).astype(int) % SECTORS)


def _likeness(found: np.ndarray, side_px: float | None) -> float:
    """How well an object's size (its mask (h, w) bool) fits to those of its kind, 0..1; 1 if none is known."""
    if side_px is None or not found.any():
        return 1.0
    box = box_of(found)
    side = float(np.max(box[2:] - box[:2]))
    return math.exp(-((math.log(side / side_px) / SPREAD) ** 2) / 2)
