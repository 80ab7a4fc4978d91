from __future__ import annotations

import numpy as np
import pytest

from backend.errors import BadSetting
from backend.simulation.imbalance import Imbalance, read_imbalance, thinned
from model.geometry import mask_to_polygons
from model.records import Outline, Record

SQUARE = mask_to_polygons(np.ones((5, 5), bool))
RECORDS = [
    Record(str(i), (9, 9), (Outline(name, SQUARE),) if name else ())
    for i, name in enumerate(["rust"] * 10 + ["miner"] * 30 + [""] * 5)
]
ALL = range(len(RECORDS))


def share_of(label: str, left: list[int]) -> float:
    labels = [outline.label for index in left for outline in RECORDS[index].outlines]
    return labels.count(label) / len(labels)


@pytest.mark.parametrize("share", [0.8, 0.5, 0.1])
def test_the_class_gets_its_share_with_no_more_images_gone_than_needed(share: float) -> None:
    left = thinned(RECORDS, ALL, Imbalance("rust", share), seed=1)
    assert share_of("rust", left) == pytest.approx(share, abs=0.05)
    assert left == sorted(left)
    assert len(set(left) & set(range(10))) == (10 if share > 0.25 else 3)


def test_images_without_objects_stay() -> None:
    assert set(range(40, 45)) <= set(thinned(RECORDS, ALL, Imbalance("rust", 0.9), seed=1))


def test_which_images_go_follows_the_seed() -> None:
    one, same, other = (thinned(RECORDS, ALL, Imbalance("rust", 0.5), seed) for seed in (1, 1, 2))
    assert one == same != other


def test_a_class_that_no_image_shows_cannot_have_a_share() -> None:
    with pytest.raises(BadSetting, match="none of the images to choose from shows 'phoma'"):
        thinned(RECORDS, ALL, Imbalance("phoma", 0.5), seed=1)


def test_the_share_is_read_behind_the_last_equals_sign() -> None:
    assert read_imbalance("a=b=0.8") == Imbalance("a=b", 0.8)


@pytest.mark.parametrize("text", ["rust", "rust=", "rust=many", "=", "rust=1.5", "rust=0", "rust=nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="imbalance must be CLASS=SHARE"):
        read_imbalance(text)


def test_what_was_given_is_named() -> None:
    with pytest.raises(BadSetting, match=r"such as healthy=0\.8, got 'rust'"):
        read_imbalance("rust")
