"""What a simulation leaves behind: every step in a table, the learning curves as a picture, and the comparison."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from backend.simulation.options import RANDOM, RANDOM_COPIES_LAST
from model.files import write_json
from sampling.learning_curves import Curve, gain_over, interval, share_of_random

COSTS = {
    "images": "annotated images",
    "objects": "outlined objects",
    "annotation_seconds": "seconds of annotation (estimate)",
}
"""What annotation costs, by a row's field: three ways to count it."""

BASELINES = (RANDOM, RANDOM_COPIES_LAST, "random_foreground", "class_turns")
"""Strategies by chance that the others are compared with."""


MEASURES = {
    "mask_ap": "mask AP on the test images",
    "class_accuracy": "class accuracy on the objects of the test images",
}
"""What a judge's curves are drawn of, by a row's field: the network's, the linear classifier's."""


@dataclass(frozen=True)
class Row:
    """One step of one run.

    images, objects, annotation_seconds   annotated so far
    seconds                               that the step took, choosing and training
    chosen                                all annotated images so far, in the order chosen
    mask_ap, mask_ap50, class_accuracy    on the test images, 0..1, None where the judge does not look at it
    """

    strategy: str
    seed: int
    loop: int
    images: int
    objects: int
    annotation_seconds: float
    seconds: float
    chosen: tuple[int, ...]
    mask_ap: float | None = None
    mask_ap50: float | None = None
    class_accuracy: float | None = None

    @property
    def measure(self) -> str:
        """Which of MEASURES the judge gives."""
        return next(name for name in MEASURES if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        """The measure itself."""
        return float(getattr(self, self.measure))


def write_report(folder: Path, rows: Sequence[Row]) -> Path:
    """Write curves.csv, curves.png and summary.json into a folder; returns the summary's path."""
    columns = [field.name for field in fields(Row) if field.name != "chosen"]
    with (folder / "curves.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    _draw(rows).savefig(folder / "curves.png", dpi=150)
    write_json(folder / "summary.json", summary(rows))
    return folder / "summary.json"


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Per strategy the measure in the end, and the share of random's annotations with which it gets as far as random.

    `share_of_random` counts images, `share_of_random_objects` and `share_of_random_annotation_seconds` the rest; `gain`
    is how much higher the strategy's curves run than a baseline's of the same seeds, by baseline and cost.
    """
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    result: dict[str, Any] = {}
    for strategy in strategies:
        final = [run[-1] for run in _runs(rows, strategy).values()]
        low, high = interval([row.value for row in final])
        result[strategy] = {
            "seeds": len(final),
            "images": final[0].images,
            final[0].measure: {"mean": float(np.mean([row.value for row in final])), "low": low, "high": high},
            **_mask_ap50(final),
            "objects": float(np.mean([row.objects for row in final])),
        }
        if RANDOM in strategies:
            for cost in COSTS:
                share = share_of_random(_curves(rows, strategy, cost), _curves(rows, RANDOM, cost))
                name = "share_of_random" if cost == "images" else f"share_of_random_{cost}"
                result[strategy][name] = asdict(share)
        result[strategy]["gain"] = {
            baseline: {cost: _gain(rows, strategy, baseline, cost) for cost in COSTS}
            for baseline in BASELINES
            if baseline in strategies and baseline != strategy and rows[-1].loop > 0
        }
    return result


def _mask_ap50(final: Sequence[Row]) -> dict[str, float]:
    known = [row.mask_ap50 for row in final if row.mask_ap50 is not None]
    return {"mask_ap50": float(np.mean(known))} if known else {}


def _gain(rows: Sequence[Row], strategy: str, baseline: str, cost: str) -> dict[str, Any]:
    return asdict(gain_over(_curves(rows, strategy, cost), _curves(rows, baseline, cost)))


def _runs(rows: Sequence[Row], strategy: str) -> dict[int, list[Row]]:
    runs: dict[int, list[Row]] = {}
    for row in rows:
        if row.strategy == strategy:
            runs.setdefault(row.seed, []).append(row)
    return runs


def _curves(rows: Sequence[Row], strategy: str, cost: str) -> Mapping[int, Curve]:
    return {
        seed: Curve(tuple(getattr(row, cost) for row in run), tuple(row.value for row in run))
        for seed, run in _runs(rows, strategy).items()
    }


def _draw(rows: Sequence[Row]) -> Figure:
    """The measure over images and over objects: the mean of the seeds, the band its 95 % interval."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), ("images", "objects"), strict=True):
        for strategy in dict.fromkeys(row.strategy for row in rows):
            runs = list(_runs(rows, strategy).values())
            length = min(len(run) for run in runs)
            costs = np.array([[getattr(row, cost) for row in run[:length]] for run in runs]).mean(0)
            values = np.array([[row.value for row in run[:length]] for run in runs])  # (seeds, steps)
            [line] = axes.plot(costs, values.mean(0), marker="o", markersize=3, label=strategy)
            if len(runs) > 1:
                low, high = np.clip([interval(column) for column in values.T], 0, 1).T
                axes.fill_between(costs, low, high, color=line.get_color(), alpha=0.12)
        axes.set_xlabel(COSTS[cost])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(MEASURES[rows[0].measure])
    figure.axes[0].legend()
    return figure
