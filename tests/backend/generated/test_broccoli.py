from __future__ import annotations

from collections import Counter

import cv2
import numpy as np

from backend.demo.data import generated_data
from backend.generated.broccoli import LABELS, generate
from backend.label_studio.labels import parse_label_config

IMAGES = list(generate(200, seed=5, size_hw=(96, 128)))


def test_the_same_seed_gives_the_same_field() -> None:
    again = list(generate(3, seed=5, size_hw=(96, 128)))
    assert all((a.image == b.image).all() and a.labels == b.labels for a, b in zip(again, IMAGES, strict=False))
    assert not (next(generate(1, seed=6, size_hw=(96, 128))).image == IMAGES[0].image).all()


def test_masks_are_disjoint_visible_and_as_many_as_labels() -> None:
    for made in IMAGES:
        assert made.image.shape == (96, 128, 3) and made.image.dtype == np.uint8
        assert made.masks.shape == (len(made.labels), 96, 128)
        assert made.masks.sum(0).max(initial=0) <= 1
        assert all(mask.sum() >= 60 for mask in made.masks)


def test_classes_are_imbalanced_and_some_images_are_empty() -> None:
    counts = Counter(label for made in IMAGES for label in made.labels)
    assert counts["healthy"] > 3 * counts["damaged"] > 3 * counts["headrot"] > 0
    assert counts.keys() == set(LABELS)
    assert any(not made.labels for made in IMAGES)


def test_the_demos_labelling_config_offers_every_label() -> None:
    data = generated_data(3)
    assert parse_label_config(data.label_config).classes == LABELS
    assert all(outline.label in LABELS for image in data.images for outline in image.truth.outlines)


def test_a_leaf_cuts_some_heads_in_two() -> None:
    parts = [cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for made in IMAGES for mask in made.masks]
    assert 0.02 < np.mean([count > 1 for count in parts]) < 0.15
