"""How often near copies are missed, and other photos taken for ones.

    python -m tests.benchmarks.near_copies --data DIR [--json FILE] [--pairs 500]

On leaves (`DIR/coffee_leaf`), nuclei (`DIR/nuclei_dsb2018`) and generated fields, all in one project. Missed: of so
many photos and their near copies by transforms that the thresholds were not found with, by the pixels alone and by all
of it (the photo also has to be among the nearest that are checked). Taken: of as many pairs of different photos of one
class, drawn at random, of these with one scale bar on all of them, and of the pairs that look most alike to the
features; these are named, as some photos of public sets are near copies of others. And how long one image takes.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from backend.generated.broccoli import generate
from model.engines.torchvision.frozen import FrozenBackbone
from model.files import write_json
from model.formats.coco import read
from model.image_files import decode_image
from model.near_copies import Glance, find_near_copies, glance, is_near_copy, thumbnail
from tests.benchmarks.first_images import FILES, MEGAPIXELS

FIELDS = 200
GREY = (124, 116, 104)


@dataclass(frozen=True, eq=False)
class Photo:
    """An image, the set that it is of, its name there and its class: that of most of its objects."""

    image: np.ndarray
    source: str
    name: str
    label: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", type=int, default=500)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = [*photos_of("leaf", options.data), *photos_of("nuclei", options.data), *fields()]
    backbone, begun = FrozenBackbone(), time.perf_counter()
    features = np.stack([backbone.maps(photo.image).of_image() for photo in photos])
    featured = time.perf_counter()
    glances = [at_a_glance(photo.image) for photo in photos]
    seen = time.perf_counter()
    found = {
        "photos": len(photos),
        "missed": missed(photos, features, glances, backbone, options.pairs),
        "taken": taken(photos, features, glances, options.pairs),
    }
    compared = time.perf_counter()
    pairs = [pair for pair in find_near_copies(features, range(len(photos)), glances.__getitem__) if pair[1]]
    ms = 1000 / len(photos)
    found["ms_an_image"] = {
        "features": round(ms * (featured - begun), 1),
        "glance": round(ms * (seen - featured), 1),
        "comparison": round(ms * (time.perf_counter() - compared), 1),
    }
    found["in_the_sets"] = [[photos[row].name, *(photos[other].name for other in others)] for row, others in pairs]
    print(found)
    if options.json:
        write_json(options.json, found)


def missed(
    photos: list[Photo], features: np.ndarray, glances: list[Glance], backbone: FrozenBackbone, count: int
) -> dict[str, Any]:
    """Shares of near copies that are missed, in all and by transform and set: by the pixels, and by all of it."""
    rows: list[tuple[str, str, bool, bool]] = []
    order = np.random.default_rng(1).permutation(len(photos))
    for number, index in enumerate(order[np.arange(count) % len(order)]):
        kind = list(TRANSFORMS)[number % len(TRANSFORMS)]
        one, other = TRANSFORMS[kind](photos[index].image, np.random.default_rng(number))
        pair = [at_a_glance(one), at_a_glance(other)]
        shown = [*glances, pair[1]]
        shown[index] = pair[0]
        table = np.vstack([features, backbone.maps(other).of_image()])
        if one is not photos[index].image:
            table[index] = backbone.maps(one).of_image()
        ((_, others),) = find_near_copies(table, [len(photos)], shown.__getitem__)
        rows.append((kind, photos[index].source, not is_near_copy(*pair), int(index) not in others))
    by = {key: _shares([r for r in rows if key in r[:2]]) for key in (*TRANSFORMS, *sorted({r[1] for r in rows}))}
    return {"pairs": len(rows), **_shares(rows), "by": by}


def _shares(rows: list[tuple[str, str, bool, bool]]) -> dict[str, float]:
    return {
        "by_pixels": round(float(np.mean([r[2] for r in rows])), 3),
        "all": round(float(np.mean([r[3] for r in rows])), 3),
    }


def taken(photos: list[Photo], features: np.ndarray, glances: list[Glance], count: int) -> dict[str, Any]:
    """Pairs of different photos of a class that are taken for near copies: of random ones, also with one scale bar on
    all of them, and of the most alike."""
    rng = np.random.default_rng(2)
    values = (features - features.mean(0)) / (features.std(0) + 1e-6)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    labels = np.array([f"{photo.source} {photo.label}" for photo in photos])
    is_pair = np.triu(labels[:, None] == labels, 1)
    same = np.argwhere(is_pair)
    alike = same[np.argsort(-(values @ values.T)[is_pair], kind="stable")[:count]]
    random = same[rng.permutation(len(same))[:count]]
    barred = {int(i): at_a_glance(with_scale_bar(photos[i].image)) for i in np.unique(random)}
    found, asked = {}, {"random": (random, glances), "with_scale_bar": (random, barred), "most_alike": (alike, glances)}
    for kind, (pairs, shown) in asked.items():
        hits = [(int(i), int(j)) for i, j in pairs if is_near_copy(shown[int(i)], shown[int(j)])]
        found[kind] = {"pairs": len(pairs), "taken": [[photos[i].name, photos[j].name] for i, j in hits]}
    return found


def at_a_glance(image: np.ndarray) -> Glance:
    return glance(thumbnail(image))


def with_scale_bar(image: np.ndarray) -> np.ndarray:
    """The image as a microscope stores it, with a bar and its length at the lower right."""
    shown, (height, width) = image.copy(), image.shape[:2]
    ends = (round(0.7 * width), round(0.9 * height)), (round(0.95 * width), round(0.92 * height))
    cv2.rectangle(shown, *ends, (255, 255, 255), -1)
    place = round(0.72 * width), round(0.88 * height)
    cv2.putText(shown, "50 um", place, cv2.FONT_HERSHEY_SIMPLEX, width / 500, (255, 255, 255), 1, cv2.LINE_AA)
    return shown


def perspective(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From a little aside: each corner moves by up to 8 %."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    there = (corners + rng.uniform(-0.08, 0.08, (4, 2)) * (width, height)).astype(np.float32)
    return cv2.warpPerspective(image, cv2.getPerspectiveTransform(corners, there), (width, height), borderValue=GREY)


def turn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned by 5 to 30 degrees."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.choice([-1, 1]) * rng.uniform(5, 30), 1)
    return cv2.warpAffine(image, matrix, (width, height), borderValue=GREY)


def upright(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The camera held the other way."""
    return np.ascontiguousarray(np.rot90(image, rng.choice([1, 2, 3])))


def mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrored across, and held in any way, as data sets are augmented."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1], rng.integers(4)))


def compressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 15 to 40."""
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 41))]
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, options)[1], cv2.IMREAD_COLOR))


def exposed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure (gamma 0.5 to 2) and white balance (up to 20 %)."""
    values = (image / 255) ** np.exp(rng.uniform(-1, 1) * np.log(2)) * rng.uniform(0.8, 1.2, 3)
    return np.asarray((255 * values).clip(0, 255), np.uint8)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of 5 to 20 of 255."""
    return np.asarray((image + rng.normal(0, rng.uniform(5, 20), image.shape)).clip(0, 255), np.uint8)


def shaken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred by a motion over 0.5 to 1.5 % of the longer side, in any direction."""
    length = max(3, round(rng.uniform(0.005, 0.015) * max(image.shape[:2]))) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    around = cv2.getRotationMatrix2D((length // 2, length // 2), rng.uniform(0, 180), 1)
    line = cv2.warpAffine(line, around, (length, length))
    return cv2.filter2D(image, -1, line / line.sum())


def shaded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls to 0.4 across the photo, and a shadow with an edge."""
    height, width = image.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    along = xs * np.cos(angle) + ys * np.sin(angle)
    light = np.interp(along, [along.min(), along.max()], [0.4, 1.2])
    light *= np.where(along > np.quantile(along, rng.uniform(0.3, 0.7)), 1, 0.75)
    return np.asarray((image * light[..., None]).clip(0, 255), np.uint8)


def smaller(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saved at 30 to 60 % of its size."""
    share = rng.uniform(0.3, 0.6)
    return cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


Pair = tuple[np.ndarray, np.ndarray]


def frames(image: np.ndarray, rng: np.random.Generator) -> Pair:
    """Two windows of the photo that share 60 to 90 % along both sides together, each exposed for itself."""
    shared = rng.uniform(0.6, 0.9)
    across = rng.uniform(shared, 1)
    sides = np.array(image.shape[:2]) / (2 - np.array([shared / across, across]))
    height, width = sides.astype(int)
    return image[:height, :width], exposed(image[-height:, -width:], rng)


def _of(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Callable[..., Pair]:
    return lambda image, rng: (image, change(image, rng))


CHANGES = (perspective, turn, upright, mirrored, compressed, exposed, noisy, shaken, shaded, smaller)
TRANSFORMS: dict[str, Callable[[np.ndarray, np.random.Generator], Pair]] = {
    **{change.__name__: _of(change) for change in CHANGES},
    "frames": frames,
}


def photos_of(source: str, data: Path) -> Iterator[Photo]:
    """The photos of a COCO file that have any object."""
    folder, file = data / FILES[source][0], FILES[source][1]
    for record in read(folder / file, images=folder / "images"):
        if record.outlines:
            image = decode_image((folder / "images" / record.image).read_bytes(), record.image, MEGAPIXELS)
            label = Counter(outline.label for outline in record.outlines).most_common(1)[0][0]
            yield Photo(image, source, record.image, label)


def fields() -> Iterator[Photo]:
    """Generated fields, in which all classes stand together."""
    for number, made in enumerate(generate(FIELDS, 5)):
        yield Photo(made.image, "fields", f"field {number}", "heads")


if __name__ == "__main__":
    main()
