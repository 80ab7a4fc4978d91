"""Does fast scoring rank images as exact scoring does?"""

from __future__ import annotations

import numpy as np

from model.engines.torchvision.engine import TorchvisionEngine
from sampling.mc_dropout import ScoringConfig, score
from tests.benchmarks.fields import fields
from tests.benchmarks.scoring import PASSES, seeded, spearman
from tests.gpu.checks import Job, Measured
from tests.gpu.start import TILES, started

RESERVE_S = 10
MOST_DIFFERENCE = 0.15


def check(job: Job) -> None:
    """Both ways on the same images, several times each."""
    job.check("fast against exact", lambda: compared(job), needs_s=RESERVE_S)


def compared(job: Job) -> Measured:
    """Rank correlation of the means over the runs, which leaves less to chance, and what two runs of one way have."""
    scale, engine = job.scale, started(job)
    rows: list[list[list[float]]] = []
    for image, _ in fields(scale.compared, 99, scale.score_size, TILES):
        rows.append([certainties(engine, image, scale.runs, exact=exact) for exact in (True, False)])
        if job.left_s < RESERVE_S:
            break
    table = np.array(rows).transpose(1, 2, 0)  # (images, ways, runs) -> (ways, runs, images)
    seen = ~np.isnan(table).any((0, 1))
    if seen.sum() < 2:
        return Measured({"images": len(rows), "with_detections": int(seen.sum())}, "too few images with detections")
    exact, fast = table[:, :, seen]
    difference = float(np.abs(exact.mean(0) - fast.mean(0)).mean())
    correlation = spearman(exact.mean(0), fast.mean(0))
    figures = {
        "images": len(rows),
        "with_detections": int(seen.sum()),
        "runs": scale.runs,
        "spearman_of_means": round(correlation, 4),
        "spearman_of_exact_with_itself": round(own(exact), 4),
        "spearman_of_fast_with_itself": round(own(fast), 4),
        "mean_absolute_difference": round(difference, 4),
        "mean_certainty": {"exact": round(float(exact.mean()), 4), "fast": round(float(fast.mean()), 4)},
    }
    problem = ""
    if difference > MOST_DIFFERENCE:
        problem = f"wanted certainties that differ by at most {MOST_DIFFERENCE} in the mean, got {difference:.3f}"
    if scale.least_spearman is not None and correlation < scale.least_spearman:
        problem = f"wanted a Spearman of at least {scale.least_spearman}, got {correlation:.3f}"
    return Measured(figures, problem)


def certainties(engine: TorchvisionEngine, image: np.ndarray, runs: int, *, exact: bool) -> list[float]:
    [encoded] = engine.encode([image], exact=exact)
    config = ScoringConfig(PASSES, exact=exact)
    return [score(engine, encoded, config, seeded(engine, seed)).certainty for seed in range(runs)]


def own(runs: np.ndarray) -> float:
    """Correlation of the means of one half of the runs (r, n) with those of the other."""
    half = len(runs) // 2
    return spearman(runs[:half].mean(0), runs[half:].mean(0))
