from __future__ import annotations

import numpy as np
import pytest

from sampling import likeness as module
from sampling.likeness import likeness

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(50, 3, (9, 16)).astype(np.float16)
STARTS = np.array([0, 2, 5, 6, 9])


def test_the_image_that_shows_the_very_object_is_the_most_like() -> None:
    near = likeness(FEATURES[3:4], FEATURES, STARTS)
    assert near.shape == (4,) and int(near.argmax()) == 1
    assert near[1] == pytest.approx(1, abs=1e-3) and (np.delete(near, 1) < 0.9).all()


def test_of_several_wanted_objects_each_counts() -> None:
    near = likeness(FEATURES[[0, 8]], FEATURES, STARTS)
    alone = [likeness(FEATURES[[i]], FEATURES, STARTS) for i in (0, 8)]
    assert near == pytest.approx(np.mean(alone, 0), abs=1e-6)
    assert set(np.argsort(-near)[:2].tolist()) == {0, 3}


def test_what_all_objects_have_in_common_makes_none_alike() -> None:
    shifted = FEATURES.astype(np.float32) + 1000
    assert likeness(shifted[3:4], shifted, STARTS) == pytest.approx(likeness(FEATURES[3:4], FEATURES, STARTS), abs=1e-3)


def test_every_feature_counts_the_same_whatever_its_scale() -> None:
    scaled = FEATURES.astype(np.float32) * np.geomspace(0.1, 1000, 16).astype(np.float32)
    assert likeness(scaled[3:4], scaled, STARTS) == pytest.approx(likeness(FEATURES[3:4], FEATURES, STARTS), abs=1e-3)


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = likeness(FEATURES[:2], FEATURES, STARTS)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    assert likeness(FEATURES[:2], FEATURES, STARTS) == pytest.approx(whole, abs=1e-5)


def test_without_images_there_is_nothing() -> None:
    assert likeness(FEATURES[:1], FEATURES[:0], np.array([0])).shape == (0,)
