"""Generated photos of broccoli fields seen from above, with exact masks: what the demo and the tests label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

LABELS = ("healthy", "damaged", "matured", "cateye", "headrot")
SHARES = (0.60, 0.15, 0.12, 0.08, 0.05)
MAX_HEADS = 4
NONE_SHARE = 0.04
CUT_SHARE = 0.06  # of the heads, cut in two by a leaf

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """image RGB uint8 (h, w, 3); labels of the heads; masks (n, h, w) bool of what is visible of each, disjoint."""

    image: np.ndarray
    labels: tuple[str, ...]
    masks: np.ndarray


@dataclass(frozen=True)
class Look:
    """How a class of heads looks: floret colour (RGB), floret size as a share of the radius, radius factor, eyes."""

    colour: tuple[int, int, int]
    floret: float
    size: float
    has_eyes: bool = False


LOOKS = {
    "healthy": Look((74, 118, 84), 0.13, 1.0),
    "damaged": Look((78, 120, 80), 0.13, 1.0),
    "matured": Look((150, 158, 72), 0.20, 1.2),
    "cateye": Look((86, 124, 82), 0.17, 1.0, has_eyes=True),
    "headrot": Look((84, 112, 74), 0.14, 1.0),
}


@dataclass(frozen=True, eq=False)
class _Field:
    """A photo that is drawn on, (h, w, 3) float, and which head each pixel belongs to, (h, w) int, -1 for none."""

    canvas: np.ndarray
    owner: np.ndarray


def generate(
    count: int, seed: int, size_hw: Size = (256, 256), shares: Sequence[float] = SHARES
) -> Iterator[GeneratedImage]:
    """So many images of a field, the same ones for the same seed; a few hold no head. `shares` of the classes."""
    for index in range(count):
        yield _image(np.random.default_rng([seed, index]), np.random.default_rng([seed, index, 1]), size_hw, shares)


def _image(
    rng: np.random.Generator, cuts: np.random.Generator, size_hw: Size, shares: Sequence[float]
) -> GeneratedImage:
    field = _Field(_soil(rng, size_hw), np.full(size_hw, -1, np.int32))
    heads = 0 if rng.random() < NONE_SHARE else int(rng.integers(1, MAX_HEADS + 1))
    labels: list[str] = []
    scale = min(size_hw)
    for centre in _centres(rng, heads, size_hw):
        label = str(rng.choice(LABELS, p=shares))
        radius = scale * rng.uniform(0.10, 0.15) * LOOKS[label].size
        _leaves(rng, field, centre, radius * 1.9, int(rng.integers(7, 11)), share=1.0)
        _head(rng, field, centre, radius, label, len(labels))
        _leaves(rng, field, centre, radius * 1.7, int(rng.integers(0, 3)), share=0.55)
        if cuts.random() < CUT_SHARE:
            _cut(cuts, field, centre, radius)
        labels.append(label)
    lit = _light(rng, field.canvas)
    masks = np.stack([field.owner == i for i in range(len(labels))]) if labels else np.zeros((0, *size_hw), bool)
    seen = [i for i in range(len(labels)) if masks[i].sum() >= 60]
    return GeneratedImage(lit, tuple(labels[i] for i in seen), masks[seen])


def _soil(rng: np.random.Generator, size_hw: Size) -> np.ndarray:
    """Brown earth, rough at several scales, with the furrows of the rows."""
    height, width = size_hw
    relief = np.zeros(size_hw, np.float32)
    for cells in (6, 20, 64):
        noise = rng.random((cells, cells), np.float32)
        relief += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / np.sqrt(cells)
    rows = np.sin(np.linspace(0, 2 * np.pi * rng.uniform(1.5, 3), width) + rng.uniform(0, 6))
    relief = 0.55 + 0.9 * (relief - relief.mean()) + 0.07 * rows.astype(np.float32)
    colour = np.array([118, 90, 66], np.float32) * rng.uniform(0.8, 1.15)
    return np.clip(relief[..., None] * colour * 1.6, 0, 255)


def _centres(rng: np.random.Generator, count: int, size_hw: Size) -> Iterator[np.ndarray]:
    """Places for heads, (x, y), that keep their distance."""
    height, width = size_hw
    placed: list[np.ndarray] = []
    for _ in range(40 * count):
        if len(placed) == count:
            return
        point = rng.uniform((0.14 * width, 0.14 * height), (0.86 * width, 0.86 * height))
        if all(np.hypot(*(point - other)) > 0.33 * min(size_hw) for other in placed):
            placed.append(point)
            yield point


def _leaves(
    rng: np.random.Generator, field: _Field, centre: np.ndarray, length: float, count: int, share: float
) -> None:
    """Leaves around a centre; a share below 1 starts them further out, so that they cover the head's rim."""
    for angle in np.arange(count) * 2 * np.pi / max(count, 1) + rng.uniform(0, 6):
        reach = length * np.array([np.cos(angle), np.sin(angle)])
        _leaf(rng, field, centre + reach * (1 - share), reach)


def _cut(rng: np.random.Generator, field: _Field, centre: np.ndarray, radius: float) -> None:
    """A slender leaf right across a head, so that two parts of it are seen."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = 2.9 * radius * np.array([np.cos(angle), np.sin(angle)])
    _leaf(rng, field, centre - reach / 2, reach, width=0.45)


def _leaf(rng: np.random.Generator, field: _Field, start: np.ndarray, reach: np.ndarray, width: float = 1.0) -> None:
    """One leaf from its stalk about as far as it reaches, (x, y); what it covers is no head any more."""
    tip = start + reach * rng.uniform(0.8, 1.1)
    side = np.array([-reach[1], reach[0]]) * rng.uniform(0.22, 0.32) * width
    steps = np.linspace(0, 1, 14)[:, None]
    spine = start + (tip - start) * steps
    bulge = np.sin(np.pi * steps**0.8) * (1 + 0.12 * rng.standard_normal((14, 1)))
    outline = np.concatenate([spine + side * bulge, (spine - side * bulge)[::-1]])
    green = np.array([62, 112, 66]) * rng.uniform(0.75, 1.25) + rng.uniform(-8, 8, 3)
    mask = _filled(outline, field.owner.shape)
    field.canvas[mask] = green
    field.owner[mask] = -1
    vein = tuple(float(v) for v in green * 1.35)
    cv2.line(field.canvas, _at(start), _at(tip), vein, 1, cv2.LINE_AA)


def _head(rng: np.random.Generator, field: _Field, centre: np.ndarray, radius: float, label: str, index: int) -> None:
    """A dome of florets with what its class adds."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wobble = 1 + sum(rng.uniform(0.01, 0.05) * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5, 9))
    rim = centre + radius * wobble[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = _filled(rim, field.owner.shape)
    field.owner[mask] = index
    layer = field.canvas.copy()
    look = LOOKS[label]
    layer[mask] = np.array(look.colour) * 0.55
    florets = int(2.4 / look.floret**2)
    for turn in range(florets):
        distance = radius * np.sqrt((turn + 0.5) / florets)
        place = centre + distance * np.array([np.cos(2.39996 * turn), np.sin(2.39996 * turn)])
        place += rng.normal(0, 0.03 * radius, 2)
        _floret(rng, layer, place, radius * look.floret, look, 1.1 - 0.35 * (distance / radius) ** 2)
    if label in FLAWS:
        FLAWS[label](rng, layer, centre, radius)
    field.canvas[mask] = cv2.GaussianBlur(layer, (3, 3), 0)[mask]


def _floret(
    rng: np.random.Generator, layer: np.ndarray, place: np.ndarray, radius: float, look: Look, light: float
) -> None:
    colour = np.array(look.colour) * light * rng.uniform(0.85, 1.15)
    size = max(1, round(radius * rng.uniform(0.8, 1.1)))
    cv2.circle(layer, _at(place), size, _rgb(colour * 0.8), -1, cv2.LINE_AA)
    cv2.circle(layer, _at(place - size * 0.25), max(1, round(size * 0.65)), _rgb(colour * 1.2), -1, cv2.LINE_AA)
    if look.has_eyes:
        cv2.circle(layer, _at(place), max(1, round(size * 0.7)), (112, 78, 40), 1, cv2.LINE_AA)
        cv2.circle(layer, _at(place), max(1, round(size * 0.4)), (232, 222, 140), -1, cv2.LINE_AA)


def _gashes(rng: np.random.Generator, layer: np.ndarray, centre: np.ndarray, radius: float) -> None:
    """Torn brown gashes."""
    for _ in range(int(rng.integers(2, 4))):
        start = centre + rng.uniform(-0.6, 0.6, 2) * radius
        path = start + np.cumsum(rng.uniform(-0.45, 0.45, (4, 2)) * radius, 0)
        points = np.round(np.concatenate([start[None], path])).astype(np.int32)
        cv2.polylines(layer, [points], False, (176, 138, 92), max(2, round(radius * 0.2)), cv2.LINE_AA)
        cv2.polylines(layer, [points], False, (92, 58, 34), max(1, round(radius * 0.1)), cv2.LINE_AA)


def _rot(rng: np.random.Generator, layer: np.ndarray, centre: np.ndarray, radius: float) -> None:
    """Soft dark patches."""
    for _ in range(int(rng.integers(2, 4))):
        place = centre + rng.uniform(-0.5, 0.5, 2) * radius
        patch = layer.copy()
        axes = (max(2, round(radius * rng.uniform(0.25, 0.45))), max(2, round(radius * rng.uniform(0.2, 0.35))))
        cv2.ellipse(patch, _at(place), axes, float(rng.uniform(0, 180)), 0, 360, (46, 32, 22), -1, cv2.LINE_AA)
        layer[:] = 0.2 * layer + 0.8 * cv2.GaussianBlur(patch, (0, 0), max(1.0, radius * 0.08))


FLAWS = {"damaged": _gashes, "headrot": _rot}


def _light(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Sun from one side, a little noise of the sensor."""
    height, width = canvas.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = rng.uniform(0.85, 1.1) + 0.14 * (np.cos(angle) * xs + np.sin(angle) * ys)
    noisy = canvas * light[..., None] + rng.normal(0, 3, canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _filled(outline: np.ndarray, size_hw: Size) -> np.ndarray:
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return mask.astype(bool)


def _at(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _rgb(colour: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in np.clip(colour, 0, 255))
    return red, green, blue
