"""What the first images teach when coverage chooses them, against chance.

    python -m tests.benchmarks.first_images --data DIR [--json FILE] [--sets leaf,nuclei] [--seeds 10] [--images 30]
        [--judge network [--first-seed 0]]

On leaves, leaf lesions, nuclei by modality (`DIR/coffee_leaf`, `DIR/nuclei_dsb2018`) and generated fields, 80 % of
whose heads are of one class; the first images are chosen of 70 % of all, the judge is asked on the other 30 %. A linear
classifier on the untouched backbone's features of the objects' boxes learns the classes from the first images: mean
accuracy over the classes. A network (`--judge network`, minutes a seed on a CPU) is trained on them as a project's
first version is: mask AP on at most 100 of the others. Means over the seeds, the paired difference with a 95 %
interval, and of how many classes the first images show anything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from backend.generated.broccoli import LABELS, generate
from backend.simulation.network_judge import NetworkJudge
from backend.simulation.options import SimulationOptions
from backend.simulation.world import Split, World, build_world
from model.engines.torchvision.frozen import FrozenBackbone
from model.errors import BadRecord
from model.files import write_json
from model.formats import coco
from model.geometry import box_of, mask_to_polygons, polygons_to_mask
from model.image_files import decode_image
from model.records import Outline, Record
from sampling.first_images import cover
from sampling.students_t import students_t

FILES = {
    "leaf": ("coffee_leaf", "annotations.json"),
    "lesions": ("coffee_leaf", "annotations_lesions.json"),
    "nuclei": ("nuclei_dsb2018", "annotations_by_modality.json"),
}
FIELDS, SHARES = 400, (0.8, 0.05, 0.05, 0.05, 0.05)
OBJECTS_AN_IMAGE = 12
MEGAPIXELS = 100.0
TRAIN_SHARE, DECAY, STEPS = 0.7, 3e-3, 60
TESTED_BY_NETWORK = 100


@dataclass(frozen=True, eq=False)
class Objects:
    """whole (n, d) of each image; boxes (m, d), labels (m,) and images (m,) of some of its objects."""

    whole: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    images: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sets", default="leaf,lesions,nuclei,fields")
    parser.add_argument("--seeds", type=int, default=10, help="two at least")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--judge", default="linear", choices=("linear", "network"))
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    seeds, found = range(options.first_seed, options.first_seed + options.seeds), {}
    for name in options.sets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = compare(judge_of(options.judge, name, options.data, Path(folder)), seeds, options.images)
        print(name, found[name], flush=True)
    if options.json:
        write_json(options.json, found)


@dataclass(frozen=True, eq=False)
class Judge:
    """How much the first ones of a set's images teach.

    whole  the untouched backbone's features of all images, (n, d)
    value  (first images, other images, seed) -> how well the others are done after the first
    labels (m,) of some objects, and their images (m,)
    """

    whole: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    value: Callable[[np.ndarray, np.ndarray, int], float]


def judge_of(kind: str, name: str, data: Path, folder: Path) -> Judge:
    """The linear classifier or the network on a set."""
    objects = objects_of(name, data)

    def linear(first: np.ndarray, test: np.ndarray, seed: int) -> float:
        return accuracy(objects, first, test)

    if kind == "linear":
        return Judge(objects.whole, objects.labels, objects.images, linear)
    world = world_of(name, data, folder)
    if len(world.photos) != len(objects.whole):  # an image that is not read whole would shift all places after it
        raise BadRecord(f"{name}: wanted {len(objects.whole)} images that are read whole, got {len(world.photos)}")
    return Judge(objects.whole, objects.labels, objects.images, network_on(world, folder))


def compare(judge: Judge, seeds: range, images: int) -> dict[str, float]:
    """The values of both kinds of first images over the seeds, and how they differ."""
    rows: dict[str, list[tuple[float, int]]] = {"chance": [], "coverage": []}
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(judge.whole))
        pool, test = np.split(order, [int(TRAIN_SHARE * len(order))])
        picks = cover(judge.whole[pool], np.zeros(len(pool), bool), images)[:images]
        chosen = {"chance": pool[:images], "coverage": pool[[p.index for p in picks]]}
        for kind, first in chosen.items():
            shown = np.unique(judge.labels[np.isin(judge.images, first)])
            rows[kind].append((judge.value(first, test, seed), len(shown)))
        print(json.dumps({"seed": seed, **{kind: round(found[-1][0], 4) for kind, found in rows.items()}}), flush=True)
    values = {kind: np.array(found, float) for kind, found in rows.items()}
    gain = values["coverage"][:, 0] - values["chance"][:, 0]
    half = students_t(len(seeds) - 1, 0.95) * gain.std(ddof=1) / len(seeds) ** 0.5
    means = {kind: round(float(v[:, 0].mean()), 3) for kind, v in values.items()}
    classes = {f"{kind}_classes": round(float(v[:, 1].mean()), 1) for kind, v in values.items()}
    return {**means, "gain": round(float(gain.mean()), 3), "half_interval": round(float(half), 3), **classes}


def network_on(world: World, folder: Path) -> Callable[[np.ndarray, np.ndarray, int], float]:
    """Mask AP of a network that was trained on the first images."""

    def value(first: np.ndarray, test: np.ndarray, seed: int) -> float:
        learn, asked = tuple(first.tolist()), tuple(test[:TESTED_BY_NETWORK].tolist())
        weights = folder / "weights.safetensors"
        weights.unlink(missing_ok=True)
        return NetworkJudge(world, Split(learn, asked), lambda _: weights, seed).learn(learn, 0)

    return value


def world_of(name: str, data: Path, folder: Path) -> World:
    """The set's images and truth as a simulation has them, the places of the images as in `objects_of`."""
    if name == "fields":
        images, annotations = folder / "images", folder / "annotations.json"
        images.mkdir()
        coco.write(list(_written_fields(images)), annotations, LABELS)
    else:
        images, annotations = data / FILES[name][0] / "images", data / FILES[name][0] / FILES[name][1]
    return build_world(SimulationOptions(images, annotations, folder, ("random",)))


def _written_fields(folder: Path) -> Iterator[Record]:
    for index, made in enumerate(generate(FIELDS, 3, shares=SHARES)):
        name = f"{index:04d}.png"
        cv2.imwrite(str(folder / name), made.image[..., ::-1])
        pairs = zip(made.labels, made.masks, strict=True)
        outlines = tuple(Outline(label, mask_to_polygons(mask)) for label, mask in pairs)
        yield Record(name, made.image.shape[:2], outlines)


def accuracy(objects: Objects, first: np.ndarray, test: np.ndarray) -> float:
    """Mean accuracy over the test images' classes of a linear classifier that learns from the first ones."""
    x = torch.from_numpy((objects.boxes - objects.boxes.mean(0)) / (objects.boxes.std(0) + 1e-4))
    y = torch.from_numpy(objects.labels)
    rows, asked = np.flatnonzero(np.isin(objects.images, first)), np.flatnonzero(np.isin(objects.images, test))
    w = torch.zeros(x.shape[1], int(y.max()) + 1, requires_grad=True)
    b = torch.zeros(w.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=STEPS)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x[rows] @ w + b, y[rows]) + DECAY * (w**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        hit = ((x[asked] @ w + b).argmax(1) == y[asked]).numpy()
    truth = objects.labels[asked]
    return float(np.mean([hit[truth == k].mean() for k in np.unique(truth)]))


def objects_of(name: str, data: Path) -> Objects:
    """Features of a set's images and of some objects of each."""
    backbone, rng = FrozenBackbone(), np.random.default_rng(0)
    source = fields if name == "fields" else lambda: photos(data / FILES[name][0], FILES[name][1])
    whole, boxes, labels, images = [], [], [], []
    for index, (image, found) in enumerate(source()):
        some = [found[i] for i in rng.permutation(len(found))[:OBJECTS_AN_IMAGE]]
        maps = backbone.maps(image)
        whole.append(maps.of_image())
        if some:
            boxes.append(maps.of_boxes(np.array([box for _, box in some])))
            labels += [label for label, _ in some]
            images += [index] * len(some)
    classes = sorted(set(labels))
    return Objects(
        np.stack(whole), np.concatenate(boxes), np.array([classes.index(one) for one in labels]), np.array(images)
    )


Source = Callable[[], Iterator[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]]


def photos(folder: Path, file: str) -> Iterator[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]:
    """Images of a COCO file with the labels and boxes of their objects."""
    for record in coco.read(folder / file, images=folder / "images"):
        image = decode_image((folder / "images" / record.image).read_bytes(), record.image, MEGAPIXELS)
        yield image, [(o.label, box_of(polygons_to_mask(o.parts, record.size_hw))) for o in record.outlines]


def fields() -> Iterator[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]:
    """Generated fields with the labels and boxes of their heads."""
    assert len(SHARES) == len(LABELS)
    for made in generate(FIELDS, 3, shares=SHARES):
        yield made.image, [(label, box_of(mask)) for label, mask in zip(made.labels, made.masks, strict=True)]


if __name__ == "__main__":
    main()
