"""What the frozen backbone sees in each annotated object, computed once for a simulation and kept in its folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.errors import BadSetting
from backend.simulation.world import World
from model.engines.torchvision.frozen import FrozenBackbone
from model.files import replacing
from model.records import boxes_of


@dataclass(frozen=True, eq=False)
class ObjectFeatures:
    """All objects of all images, image by image.

    objects  (m, d) float32 features, each column with mean 0 and deviation 1 over the objects
    labels   (m,) int64 into num_classes
    starts   (n + 1,) the objects of image i are starts[i]..starts[i + 1]
    whole    (n, d) float32 of each image as a whole
    """

    objects: np.ndarray
    labels: np.ndarray
    starts: np.ndarray
    whole: np.ndarray
    num_classes: int

    def of_image(self, index: int) -> slice:
        """The objects of an image."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


def features_of(world: World, folder: Path) -> ObjectFeatures:
    """The features of a world's objects, from the folder if they were computed before.

    Raises BadSetting where there are no two classes to tell apart.
    """
    labels = [world.classes.index(outline.label) for record in world.records for outline in record.outlines]
    if len(set(labels)) < 2:
        raise BadSetting("the linear judge needs objects of two classes, got one; choose --judge network")
    boxes = [boxes_of(record) for record in world.records]
    objects, whole = _raw(world, boxes, folder)
    standardised = (objects - objects.mean(0)) / (objects.std(0) + 1e-4)
    starts = np.cumsum([0, *(len(some) for some in boxes)])
    return ObjectFeatures(standardised, np.array(labels, np.int64), starts, whole, len(world.classes))


def _raw(world: World, boxes: list[np.ndarray], folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of all objects (m, d) and of all images (n, d), float32."""
    backbone = FrozenBackbone(world.device)
    path = folder / f"object_features_{_digest(world, boxes, backbone.digest)}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return stored["objects"].astype(np.float32), stored["whole"].astype(np.float32)
    objects, whole = [], []
    for record, some in zip(tqdm(world.records, desc="features", unit="image"), boxes, strict=True):
        maps = backbone.maps(world.image(record.image))
        objects.append(maps.of_boxes(some))
        whole.append(maps.of_image())
    kept = {"objects": np.concatenate(objects).astype(np.float16), "whole": np.stack(whole).astype(np.float16)}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **kept)
    return kept["objects"].astype(np.float32), kept["whole"].astype(np.float32)


def _digest(world: World, boxes: list[np.ndarray], weights: str) -> str:
    """What changes with the backbone's weights, the images' names and the objects' boxes."""
    whole = hashlib.sha256(weights.encode())
    for record, some in zip(world.records, boxes, strict=True):
        whole.update(record.image.encode() + some.tobytes())
    return whole.hexdigest()[:16]
