"""What scoring an image costs: ours, fast and exact, against MaskAL's loop read plainly, and where the time goes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from model.engines.torchvision.engine import TorchvisionEngine
from sampling.mc_dropout import dropout_on
from sampling.uncertainty import image_certainty
from tests.benchmarks.fields import fields
from tests.benchmarks.scoring import PASSES, measure, now, seeded
from tests.gpu.checks import Job, Measured
from tests.gpu.start import TILES, started

BATCH = 8
"""Images that a GPU computes together when it scores a pool."""


def check(job: Job) -> None:
    """The benchmark, the stages of each way, and a batch."""
    job.check("against the reference", lambda: against_reference(job), needs_s=20)
    job.check("stages", lambda: Measured(stages(started(job), photos(job, job.scale.timed))), needs_s=10)
    job.check("a batch", lambda: Measured(batch(started(job), photos(job, BATCH))), needs_s=10)


def photos(job: Job, count: int) -> list[np.ndarray]:
    return [image for image, _ in fields(count, 99, job.scale.score_size, TILES)]


def against_reference(job: Job) -> Measured:
    figures = measure(started(job), photos(job, job.scale.timed))
    is_slower = job.device.type == "cuda" and figures["speedup"] < 1
    return Measured(figures, "ours is slower than the reference" if is_slower else "")


def stages(engine: TorchvisionEngine, images: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """Milliseconds of each stage by way, medians over the images after the first."""
    found = {}
    for name, exact in (("fast", False), ("exact", True)):
        rows = [stage_ms(engine, image, exact) for image in images]
        found[name] = {stage: round(statistics.median(row[stage] for row in rows[1:]), 2) for stage in rows[0]}
    return found


def stage_ms(engine: TorchvisionEngine, image: np.ndarray, exact: bool) -> dict[str, float]:
    moments = [now(engine)]
    [encoded] = engine.encode([image], exact=exact)
    moments.append(now(engine))
    engine.decode(encoded)
    moments.append(now(engine))
    with dropout_on(engine.network, seeded(engine, 0)):
        passes = engine.sample(encoded, PASSES)
    moments.append(now(engine))
    image_certainty(passes, exact=exact)
    moments.append(now(engine))
    taken = [1000 * (after - before) for before, after in pairwise(moments)]
    return dict(zip(("encode", "decode", "sample", "certainty"), taken, strict=True))


def batch(engine: TorchvisionEngine, images: Sequence[np.ndarray]) -> dict[str, float]:
    """Milliseconds an image to encode images alone and together, the second time."""
    found = {}
    for name, groups in (("alone_ms", [[image] for image in images]), ("together_ms", [list(images)])):
        for _ in range(2):
            started_at = now(engine)
            for group in groups:
                engine.encode(group)
            found[name] = round(1000 * (now(engine) - started_at) / len(images), 2)
    return found
