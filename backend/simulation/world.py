"""The world of a simulation: photos and their near copies, and which of them may be learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from backend.errors import BadSetting
from backend.project.config import ProjectConfig
from backend.simulation.imbalance import thinned
from backend.simulation.near_copies import NearCopy, near_copies
from backend.simulation.options import SimulationOptions
from backend.simulation.splits import stratified_split
from model.engines.base import EngineConfig
from model.engines.loader import build_engine
from model.record_images import RecordImages
from model.records import Record


@dataclass(frozen=True, eq=False)
class World:
    """What all runs share: images and truth.

    photos   the annotated images
    copies   of each photo as many near copies, in the order of the photos
    starts   the folder of converted pretrained weights
    """

    photos: tuple[Record, ...]
    copies: tuple[NearCopy, ...]
    images: RecordImages
    classes: tuple[str, ...]
    config: ProjectConfig
    device: str
    starts: Path

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The photos, after them their copies; images are known by their places here."""
        return (*self.photos, *(copy.record for copy in self.copies))

    def copies_of(self, photo: int) -> Sequence[int]:
        """The places of a photo's near copies."""
        each = len(self.copies) // len(self.photos)
        return range(len(self.photos) + photo * each, len(self.photos) + (photo + 1) * each)

    def engine_config(self) -> EngineConfig:
        """One for all runs, with the input that fits the objects."""
        usual = self.config.engine_config(self.device)
        engine = build_engine(self.config.engine, self.classes, usual)
        return self.config.adapted(engine.config, engine.input_range, self.photos)

    def image(self, name: str) -> np.ndarray:
        """A photo or near copy as RGB uint8 (h, w, 3); BadImageFile if it has changed since all were looked at."""
        copy = self._copy_by_name.get(name)
        if copy:
            return copy.of(self.image(copy.original))
        return self.images.load(self.by_name[name])

    @cached_property
    def by_name(self) -> Mapping[str, Record]:
        """The photos' records by the names of their images."""
        return {record.image: record for record in self.photos}

    @cached_property
    def _copy_by_name(self) -> Mapping[str, NearCopy]:
        return {copy.record.image: copy for copy in self.copies}


@dataclass(frozen=True)
class Split:
    """Places of the images to learn from, and of the photos to test on, which have no near copy among the former."""

    learn: tuple[int, ...]
    test: tuple[int, ...]


def build_world(options: SimulationOptions) -> World:
    """The world that the options describe."""
    photos = options.records()
    return World(
        photos,
        tuple(copy for record in photos for copy in near_copies(record, options.redundant)),
        RecordImages(options.images, options.max_image_megapixels),
        options.classes,
        options.project_config(),
        options.computing_device(),
        options.out / "runs" / "starts",
    )


def split(world: World, options: SimulationOptions, seed: int) -> Split:
    """A seed's split: by photo, each class at its share; then the photos to learn from are thinned out and copied.

    Raises BadSetting where no photo to test on shows an object: every strategy would seem worth nothing.
    """
    learn: Iterable[int]
    learn, test = stratified_split(world.photos, options.test_share, seed)
    if not any(world.photos[photo].outlines for photo in test):
        raise BadSetting(
            f"none of the {len(test)} images to test on, of {len(world.photos)}, shows an object; choose a larger "
            "--test-share, or more images"
        )
    if options.wanted_imbalance:
        learn = thinned(world.photos, learn, options.wanted_imbalance, seed)
    return Split(tuple(place for photo in learn for place in (photo, *world.copies_of(photo))), tuple(test))
