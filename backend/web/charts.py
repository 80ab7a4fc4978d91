"""Charts as numbers that a template only has to draw: all places in units of the drawing, y downwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.care.overview import Certainties
from backend.counted import counted
from backend.rounds.history import History, Measured

ACCEPTED, REFUSED, ROLLED_BACK, SERVED = "accepted", "refused", "rolled back", "served"

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 16, 48
"""The drawing of a chart, and the space around its axes."""

SPARK_WIDTH, SPARK_HEIGHT, SPARK_EDGE = 120, 30, 4


@dataclass(frozen=True)
class Tick:
    """A number on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A version on the learning curve; `low` and `high` are the ends of its interval, or `y` without one."""

    x: float
    y: float
    low: float
    high: float
    state: str
    measured: Measured


@dataclass(frozen=True)
class Curve:
    """The learning curve: a line through the versions that were accepted and stayed, and a mark for each."""

    marks: tuple[Mark, ...]
    line: str
    band: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Bar:
    """A part of a histogram: its place, and what it says."""

    x: float
    y: float
    width: float
    height: float
    told: str


@dataclass(frozen=True)
class Histogram:
    """Bars of the served version, and the outline of the one before it (empty without one)."""

    bars: tuple[Bar, ...]
    before: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Spark:
    """A small curve of one class: a line, and where it ends."""

    line: str
    end: tuple[float, float]


def state_of(version: str, history: History, served: str | None) -> str:
    """What became of a version, in a word."""
    measured = next(one for one in history.versions if one.version == version)
    if version == served:
        return SERVED
    if not measured.promoted:
        return REFUSED
    return ROLLED_BACK if version in history.rolled_back else ACCEPTED


def learning_curve(history: History, served: str | None, of_class: str | None = None) -> Curve | None:
    """Mask AP over annotated images, of all classes or of one; None where no version was measured."""
    measured = [one if of_class is None else _of_class(one, of_class) for one in history.versions]
    measured = [one for one in measured if one.mask_ap is not None]
    if not measured:
        return None
    x_ticks = _ticks(max(one.annotated for one in measured))
    highest = max(max(one.mask_ap or 0.0, *(one.interval or (0.0,))) for one in measured)
    y_ticks = _ticks(min(1.0, max(highest, 0.1)), whole=False)
    along, up = _along(x_ticks[-1]), _up(y_ticks[-1])
    marks = []
    for one in measured:
        value = one.mask_ap or 0.0
        low, high = one.interval or (value, value)
        state = state_of(one.version, history, served)
        marks.append(Mark(along(one.annotated), up(value), up(low), up(high), state, one))
    stayed = [mark for mark in marks if mark.state in (ACCEPTED, SERVED)]
    edge = [(mark.x, mark.high) for mark in stayed] + [(mark.x, mark.low) for mark in stayed[::-1]]
    return Curve(
        marks=tuple(marks),
        line=_path([(mark.x, mark.y) for mark in stayed]),
        band=_path(edge) + "Z" if len(stayed) > 1 else "",
        x_ticks=tuple(Tick(along(value), f"{value:g}") for value in x_ticks),
        y_ticks=tuple(Tick(up(value), f"{value:g}") for value in y_ticks),
    )


def _of_class(measured: Measured, name: str) -> Measured:
    ap, interval = measured.per_class.get(name, (None, None))
    return replace(measured, mask_ap=ap, interval=interval)


def histogram(certainties: Sequence[Certainties]) -> Histogram | None:
    """Shares of the open images in each part of 0..1; None where no image has a certainty."""
    shares = [_shares(one.counts) for one in certainties]
    if not shares or not any(shares[0]):
        return None
    y_ticks = _ticks(100 * max(max(row) for row in shares))
    along, up = _along(1.0), _up(y_ticks[-1])
    step, floor = 1 / len(shares[0]), HEIGHT - BOTTOM
    bars = [
        Bar(
            x=along(index * step) + 1,
            y=up(100 * share),
            width=along(step) - along(0) - 2,
            height=floor - up(100 * share),
            told=f"certainty {index * step:.2f} to {(index + 1) * step:.2f}: {counted(count, 'image')}",
        )
        for index, (share, count) in enumerate(zip(shares[0], certainties[0].counts, strict=True))
    ]
    outline = []
    for index, share in enumerate(shares[1] if len(shares) > 1 else ()):
        outline += [(along(index * step), up(100 * share)), (along((index + 1) * step), up(100 * share))]
    return Histogram(
        bars=tuple(bars),
        before=_path(outline) if outline else "",
        x_ticks=tuple(Tick(along(value), f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1)),
        y_ticks=tuple(Tick(up(value), f"{value:g} %") for value in y_ticks),
    )


def spark(history: History, name: str, served: str | None) -> Spark | None:
    """A class's AP over the versions that stayed; None where there are fewer than two."""
    stayed = [one for one in history.versions if state_of(one.version, history, served) in (ACCEPTED, SERVED)]
    values = [ap for one in stayed if (ap := one.per_class.get(name, (None, None))[0]) is not None]
    if len(values) < 2:
        return None
    wide, high = SPARK_WIDTH - 2 * SPARK_EDGE, SPARK_HEIGHT - 2 * SPARK_EDGE
    points = [
        (SPARK_EDGE + wide * index / (len(values) - 1), SPARK_EDGE + high * (1 - value))
        for index, value in enumerate(values)
    ]
    return Spark(_path(points), points[-1])


def heat(count: int, row: Sequence[int]) -> int:
    """How much of its row a cell of a confusion matrix has, 0..9, for its shade."""
    return min(9, math.ceil(9 * count / sum(row))) if sum(row) else 0


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / sum(counts) for count in counts] if sum(counts) else [0.0 for _ in counts]


def _along(largest: float) -> Callable[[float], float]:
    return lambda value: round(LEFT + (WIDTH - LEFT - RIGHT) * value / largest, 1)


def _up(largest: float) -> Callable[[float], float]:
    return lambda value: round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / largest, 1)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if index else 'M'}{x:g} {y:g}" for index, (x, y) in enumerate(points))


def _ticks(largest: float, *, whole: bool = True) -> list[float]:
    """Round numbers from 0 up to the first one that is not below the largest value, four to six of them."""
    rough = largest / 5
    power = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    step = max(1.0, math.ceil(step)) if whole else step
    count = max(1, math.ceil(largest / step - 1e-9))
    return [round(step * index, 10) for index in range(count + 1)]
