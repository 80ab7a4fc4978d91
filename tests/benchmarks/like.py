"""Does `maskal like` find a rare class, and how long does it take among many images?

    python -m tests.benchmarks.like --images photos/ --annotations annotations.json [--json FILE]

Of each class up to QUERIES times an object asks, or TOGETHER of them as with --label, for the like of them among the
objects of all other photos, one task a photo: of the first ten the share that shows the class, beside the share that
chance would find. The seconds and the peak memory of a question are of LARGE images with OBJECTS each (features drawn
at random, float16 as they are kept, in parts on the disk).
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.rounds.object_parts import ObjectParts
from model.engines.torchvision.frozen import FrozenBackbone
from model.files import write_json
from model.formats import coco
from model.image_files import decode_image
from model.records import Record
from sampling.likeness import likeness

QUERIES = 20
TOGETHER = 5
FIRST = 10
LARGE, OBJECTS = 10_000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records = [record for record in coco.read(options.annotations, images=options.images) if record.outlines]
    features = features_of(records, options.images)
    classes = sorted({outline.label for record in records for outline in record.outlines})
    report = {
        "photos": len(records),
        "first": FIRST,
        "classes": {name: found(name, records, features, 1) for name in classes},
        f"classes, {TOGETHER} together": {name: found(name, records, features, TOGETHER) for name in classes},
        "large": cost(features[0].shape[1]),
        "device": f"{platform.machine()}, numpy {np.__version__}",
    }
    print(json.dumps(report, indent=2))
    if options.json is not None:
        write_json(options.json, report)


def features_of(records: list[Record], folder: Path) -> list[np.ndarray]:
    """What the untouched backbone sees in the objects of each photo, (k, d) float16."""
    backbone = FrozenBackbone()
    features = []
    for record in tqdm(records, unit="photo"):
        image = decode_image((folder / record.image).read_bytes(), record.image, 100)
        corners = [np.concatenate([part.exterior for part in outline.parts]) for outline in record.outlines]
        boxes = np.array([[*points.min(0), *points.max(0)] for points in corners], np.float32)
        features.append(backbone.maps(image).of_boxes(boxes).astype(np.float16))
    return features


def found(name: str, records: list[Record], features: list[np.ndarray], together: int) -> dict[str, float]:
    """Share of the first photos that show a class if some objects of it ask, and the share of all photos that do."""
    shows = np.array([any(outline.label == name for outline in record.outlines) for record in records])
    rows = [(i, j) for i, r in enumerate(records) for j, outline in enumerate(r.outlines) if outline.label == name]
    order = np.random.default_rng(0).permutation(len(rows))
    shares, chances = [], []
    for start in range(0, len(rows) - together + 1, together)[:QUERIES]:
        asking = [rows[row] for row in order[start : start + together]]
        others = [i for i in range(len(records)) if i not in {photo for photo, _ in asking}]
        starts = np.cumsum([0, *(len(features[i]) for i in others)])
        wanted = np.stack([features[photo][place] for photo, place in asking])
        near = likeness(wanted, np.concatenate([features[i] for i in others]), starts)
        first = np.argsort(-near, kind="stable")[:FIRST]
        shares.append(float(shows[others][first].mean()))
        chances.append(float(shows[others].mean()))
    return {
        "objects": len(rows),
        "share": round(float(np.mean(shares)), 3),
        "chance": round(float(np.mean(chances)), 3),
    }


def cost(width: int) -> dict[str, float]:
    """Seconds and peak memory of one question about five objects among many images."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        parts = ObjectParts(Path(folder), "")
        with parts.writer("") as writer:
            for task in range(LARGE):
                writer.add(task, "", rng.normal(size=(OBJECTS, width)))
        wanted = rng.normal(size=(OBJECTS, width))
        started = time.perf_counter()
        answer(parts, wanted)
        seconds = time.perf_counter() - started
        tracemalloc.start()
        answer(parts, wanted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        kept = sum(path.stat().st_size for path in parts.folder.iterdir()) / 1e6
    return {"images": LARGE, "seconds": round(seconds, 2), "peak_mb": round(peak / 1e6), "kept_mb": round(kept)}


def answer(parts: ObjectParts, wanted: np.ndarray) -> np.ndarray:
    """What a question computes when all images were looked at."""
    rows = parts.rows()
    _, features, starts = parts.table(rows)
    parts.tidy(rows, rows)
    return likeness(wanted, features, starts)


if __name__ == "__main__":
    main()
