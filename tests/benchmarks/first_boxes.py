"""How well a drawn box and a click are answered before there is a version, and by a version's weights.

    python -m tests.benchmarks.first_boxes --data DIR [--json FILE] [--weights FILE ...] [--sets nuclei,fields]

On up to 200 objects each of leaves, leaf lesions, nuclei (`DIR/coffee_leaf`, `DIR/nuclei_dsb2018`), generated fields:
the mean IoU of the answer with the object's mask (0 without an answer), the share of objects without one and of those
with an IoU above 0.7, and milliseconds on one core: of the first box on an image, and of further ones. A box is drawn a
little around its object, by up to 8 % of its sides; a click hits the object in its middle, where it is widest. Of
clicks there are two kinds: the first of all, and those after a box has shown how large such objects are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from backend.generated.broccoli import generate
from model.engines.base import EngineConfig
from model.engines.loader import load_alone
from model.errors import NoOutline
from model.files import write_json
from model.formats.coco import read
from model.geometry import box_of, polygons_to_mask
from model.image_files import decode_image
from model.outlining.base import Click, Outliner
from model.outlining.grabcut import GrabCut
from model.outlining.network import NetworkOutliner
from model.outlining.trial import SMALLEST_PX, loose_box

OBJECTS, SEED = 200, 7

FILES = {
    "leaf": ("coffee_leaf", "annotations.json"),
    "lesions": ("coffee_leaf", "annotations_lesions.json"),
    "nuclei": ("nuclei_dsb2018", "annotations.json"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, action="append", default=[], help="a version's weights.safetensors")
    parser.add_argument("--sets", default=",".join([*FILES, "fields"]))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    outliners: dict[str, Outliner] = {"grabcut": GrabCut()}
    for path in options.weights:
        engine = load_alone(path, EngineConfig(), None, ())
        outliners[str(path)] = NetworkOutliner(engine, otherwise=GrabCut())
    report: dict[str, dict[str, object]] = {}
    for name in options.sets.split(","):
        asked = objects(options.data, name)
        report[name] = {key: measure(outliner, asked) for key, outliner in outliners.items()}
        print(json.dumps({name: report[name]}, indent=2), flush=True)
    if options.json is not None:
        write_json(options.json, report)


@dataclass(frozen=True, eq=False)
class Asked:
    """An object on an image RGB uint8 (h, w, 3), and what an annotator draws to have its mask (h, w) bool."""

    image: np.ndarray
    mask: np.ndarray
    box_xyxy: np.ndarray
    point_xy: np.ndarray


def objects(data: Path, name: str) -> list[Asked]:
    """The objects of one set, the same ones each time, at most two an image."""
    rng = np.random.default_rng(SEED)
    asked: list[Asked] = []
    for image, masks in fields() if name == "fields" else annotated(data, *FILES[name], rng):
        usable = [mask for mask in masks if (box_of(mask)[2:] - box_of(mask)[:2]).min() >= SMALLEST_PX]
        for index in rng.permutation(len(usable))[:2]:
            asked.append(Asked(image, usable[index], loose_box(usable[index], rng), middle(usable[index])))
        if len(asked) >= OBJECTS:
            break
    return asked[:OBJECTS]


def fields() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((made.image, made.masks) for made in generate(OBJECTS, SEED))


def annotated(
    data: Path, folder: str, file: str, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    records = read(data / folder / file)
    for index in rng.permutation(len(records)):
        record = records[index]
        image = decode_image((data / folder / "images" / record.image).read_bytes(), record.image, 50)
        yield image, [polygons_to_mask(outline.parts, record.size_hw) for outline in record.outlines]


def middle(mask: np.ndarray) -> np.ndarray:
    """The point (2,), x and y, that lies deepest inside of an object."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([column + 0.5, row + 0.5])


def measure(outliner: Outliner, asked: Sequence[Asked]) -> dict[str, object]:
    """What becomes of a box, a first click, and a click after a box, for each object on a fresh look at its image."""
    side = float(np.median([np.max(one.box_xyxy[2:] - one.box_xyxy[:2]) for one in asked]))

    def box(seen: object, one: Asked) -> np.ndarray:
        return outliner.in_box(seen, one.box_xyxy, None)

    def click(side_px: float | None) -> Callable[[object, Asked], np.ndarray]:
        return lambda seen, one: outliner.at_point(seen, Click(one.point_xy, side_px=side_px), None)

    questions = {"box": box, "click": click(None), "click_after_a_box": click(side)}
    return {name: figures(outliner, asked, question) for name, question in questions.items()}


def figures(
    outliner: Outliner, asked: Sequence[Asked], question: Callable[[object, Asked], np.ndarray]
) -> dict[str, float]:
    ious, first_s, further_s, unanswered = [], [], [], 0
    for one in asked:
        started = time.perf_counter()
        seen = outliner.look(one.image)
        found = answered(question, seen, one)
        looked = time.perf_counter()
        answered(question, seen, one)
        first_s.append(looked - started)
        further_s.append(time.perf_counter() - looked)
        unanswered += not found.any()
        ious.append(float((found & one.mask).sum() / (found | one.mask).sum()))
    return {
        "iou": round(float(np.mean(ious)), 3),
        "above_0.7": round(float(np.mean(np.array(ious) > 0.7)), 3),
        "unanswered": round(unanswered / len(asked), 3),
        "objects": len(asked),
        "first_ms": round(1000 * float(np.median(first_s)), 1),
        "further_ms": round(1000 * float(np.median(further_s)), 1),
        "further_max_ms": round(1000 * float(np.max(further_s)), 1),
    }


def answered(question: Callable[[object, Asked], np.ndarray], seen: object, one: Asked) -> np.ndarray:
    try:
        return question(seen, one)
    except NoOutline:
        return np.zeros_like(one.mask)


if __name__ == "__main__":
    main()
