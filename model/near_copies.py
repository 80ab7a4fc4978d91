"""Near copies: two photos that show the same objects, from bursts, videos, overlapping flights, or edited files.

Candidates are an image's nearest by the untouched backbone's features, standardised over the images. Whether two are
near copies is decided by their pixels, on grey thumbnails of 256 pixels whose contrast is stretched, as they are and
with one of them mirrored (files that were augmented before they were uploaded, slides scanned from both sides):

1. ORB corners (400 each) are matched both ways, and RANSAC looks for a turn, scale and shift that many follow.
   At least MATCHES = 28 must: of 4,094 pairs of photos of one class that the features take for the most alike (leaves,
   nuclei, generated fields) only two have more, and these two are near copies. And at least ELSEWHERE = 8 of them lie
   outside of the three blocks that hold the most: a scale bar or a legend that all images have makes none copies.
2. After alignment by a homography through those corners, they must share SHARED = half of the smaller photo, and of
   the blocks there that show any texture at least SAME = 80 % must have it in common: its correlation, at the contrast
   of the whole, is above ALIKE = 0.3. So photos of a fixed camera, whose ground is the same, are told apart by their
   objects where these take more than a fifth of the picture.

The figures of other transforms than those by which the thresholds were found: `python -m tests.benchmarks.near_copies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from model.scaling import scaled_image, scaled_size

SIDE = 256
"""Longer side of a thumbnail, pixels."""

DARKEST, BRIGHTEST, LEAST_RANGE = 1.0, 99.5, 8
"""Percentiles of grey that become black and white, at least so far apart."""

CORNERS, ORB_EDGE, ORB_PATCH, ORB_CONTRAST = 400, 10, 21, 5
MATCHES, MATCH_BITS, MATCH_PX = 28, 64, 4.0
"""Corners that must agree; bits of 256 in which a pair may differ; pixels by which it may lie off."""

SCALES = (0.5, 2.0)
SHARED, SAME = 0.5, 0.8
FINE_PX, COARSE_PX = 1.5, 10.0
"""Texture is what lies between these two blurs."""

CROWDED, ELSEWHERE = 3, 8
"""Blocks whose corners may all be those of a scale bar, and corners that must agree outside of them."""

BLOCKS, SEEN, TEXTURED, ALIKE = 6, 0.5, 0.1, 0.3
"""Blocks along the longer side; how much of one must be seen; the least texture (1: the mean); and its correlation."""

MISSES, CHECKS = 16, 60
"""An image is checked against the nearest others until so many are no copies, and against so many at most."""

BATCH = 256


@dataclass(frozen=True, eq=False)
class Glance:
    """An image's thumbnail uint8 (h, w), its corners (k, 2) float32 and what ORB makes of each (k, 32) uint8."""

    grey: np.ndarray
    corners: np.ndarray
    words: np.ndarray

    @cached_property
    def mirrored(self) -> Glance:
        """The same of the image's mirror image."""
        return glance(np.ascontiguousarray(self.grey[:, ::-1]))


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small grey picture (h, w) with stretched contrast of an RGB uint8 (h, w, 3) image."""
    small = scaled_image(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), scaled_size(image.shape[:2], SIDE, SIDE))
    low, high = np.percentile(small, [DARKEST, BRIGHTEST])
    stretched = (small.astype(np.float32) - low) * (255 / max(high - low, LEAST_RANGE))
    return np.asarray(stretched.clip(0, 255), np.uint8)


def glance(grey: np.ndarray) -> Glance:
    """What is compared of a thumbnail (h, w) uint8; no corners in one that is too narrow for any."""
    if min(grey.shape) <= 2 * ORB_EDGE:  # which OpenCV's pyramid may shrink to nothing
        return Glance(grey, np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
    orb = cv2.ORB.create(CORNERS, edgeThreshold=ORB_EDGE, patchSize=ORB_PATCH, fastThreshold=ORB_CONTRAST)
    points, words = orb.detectAndCompute(grey, None)
    corners = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    return Glance(grey, corners, np.zeros((0, 32), np.uint8) if words is None else words)


def is_near_copy(one: Glance, other: Glance) -> bool:
    """Whether two images show the same, mirrored or not; see above how."""
    return _show_the_same(one, other) or _show_the_same(one.mirrored, other)


def _show_the_same(one: Glance, other: Glance) -> bool:
    placement = _placement(one, other)
    if placement is None:
        return False
    height, width = other.grey.shape
    laid = cv2.warpPerspective(one.grey, placement, (width, height))
    seen = cv2.warpPerspective(np.ones_like(one.grey), placement, (width, height), flags=cv2.INTER_NEAREST)
    size = abs(float(np.linalg.det(placement[:2, :2]))) * one.grey.size
    if seen.sum() < SHARED * min(other.grey.size, size):
        return False
    return _same_share(_texture(laid), _texture(other.grey), cv2.erode(seen, np.ones((7, 7), np.uint8))) >= SAME


def find_near_copies(
    features: np.ndarray, new: Sequence[int], look: Callable[[int], Glance]
) -> Iterator[tuple[int, list[int]]]:
    """Each new image with its near copies among all, as rows of their features (n, d); `look` shows a row's image.

    Where there are more copies than CHECKS, only the nearest are found.
    """
    space, checked = _standardised(features), dict[tuple[int, int], bool]()
    for start in range(0, len(new), BATCH):
        batch = list(new[start : start + BATCH])
        nearness = space[batch] @ space.T  # (b, n)
        for row, near in zip(batch, nearness, strict=True):
            near[row] = -np.inf
            order = np.argpartition(-near, min(CHECKS, len(near) - 1))[:CHECKS]
            candidates = [int(i) for i in order[np.argsort(-near[order], kind="stable")] if i != row]
            yield row, _copies_among(row, candidates, look, checked)


def _copies_among(
    row: int, candidates: Sequence[int], look: Callable[[int], Glance], checked: dict[tuple[int, int], bool]
) -> list[int]:
    found, misses = [], 0
    for other in candidates:
        pair = (min(row, other), max(row, other))
        if pair not in checked:
            checked[pair] = is_near_copy(look(row), look(other))
        if checked[pair]:
            found.append(other)
        else:
            misses += 1
        if misses == MISSES:
            break
    return found


def _standardised(features: np.ndarray) -> np.ndarray:
    values = np.asarray(features, np.float32)
    values = (values - values.mean(0)) / (values.std(0) + 1e-6)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-6))


def _placement(one: Glance, other: Glance) -> np.ndarray | None:
    """Where a point of one image goes in the other, (3, 3); None where too few corners agree on it."""
    if min(len(one.corners), len(other.corners)) < MATCHES:
        return None
    from_one, to_other = _matched(one.words, other.words)
    if len(from_one) < MATCHES:
        return None
    there, here = one.corners[from_one], other.corners[to_other]
    moved, agree = cv2.estimateAffinePartial2D(
        there, here, ransacReprojThreshold=MATCH_PX, maxIters=500, confidence=0.99
    )
    if moved is None or agree.sum() < MATCHES or not SCALES[0] < np.hypot(moved[0, 0], moved[1, 0]) < SCALES[1]:
        return None
    agreeing = here[agree[:, 0] > 0]
    if _outside_of_crowds(agreeing, max(other.grey.shape) / BLOCKS) < ELSEWHERE:
        return None
    placement, _ = cv2.findHomography(there[agree[:, 0] > 0], agreeing, 0)
    return placement


def _matched(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of words (n, 32) and (m, 32) that are each other's nearest and close enough.

    As OpenCV's matcher with crossCheck, in half the time: a matrix product is what processors do best.
    """
    differing = (256 - _signs(one) @ _signs(other).T) / 2  # (n, m) bits
    nearest = differing.argmin(1)
    rows = np.arange(len(one))
    is_pair = (differing.argmin(0)[nearest] == rows) & (differing[rows, nearest] < MATCH_BITS)
    return rows[is_pair], nearest[is_pair]


def _signs(words: np.ndarray) -> np.ndarray:
    """The bits of words (n, 32) as -1 and 1, (n, 256)."""
    return np.unpackbits(words, axis=1) * np.float32(2) - np.float32(1)


def _outside_of_crowds(corners: np.ndarray, side: float) -> int:
    """How many of the corners (n, 2) lie outside of those blocks of a side that hold the most."""
    _, counts = np.unique(corners // side, axis=0, return_counts=True)
    return int(np.sort(counts)[:-CROWDED].sum())


def _texture(grey: np.ndarray) -> np.ndarray:
    fine = cv2.GaussianBlur(grey, (0, 0), FINE_PX).astype(np.float32)
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), COARSE_PX))


def _same_share(one: np.ndarray, other: np.ndarray, seen: np.ndarray) -> float:
    """Of the blocks with texture in either picture, the share in which one's explains the other's; 0 without any."""
    height, width = seen.shape
    side = max(height, width) / BLOCKS
    blocks = max(1, round(width / side)), max(1, round(height / side))
    where = seen.astype(np.float32)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(values * where, blocks, interpolation=cv2.INTER_AREA))

    covered = mean(where)
    kept = covered > SEEN
    own, theirs, common = (mean(a * b)[kept] / covered[kept] for a, b in ((one, one), (other, other), (one, other)))
    if not len(own) or min(own.mean(), theirs.mean()) <= 0:
        return 0.0
    common = common / np.sqrt(own.mean() * theirs.mean())  # contrast may differ as a whole
    own, theirs = own / own.mean(), theirs / theirs.mean()
    textured = np.maximum(own, theirs) > TEXTURED
    return float((2 * common > ALIKE * (own + theirs))[textured].mean()) if textured.any() else 0.0
