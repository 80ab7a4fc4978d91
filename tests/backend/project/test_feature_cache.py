from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from backend.project.feature_cache import FeatureCache
from model.engines.torchvision.frozen import FeatureMaps


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (64, 96, 3), np.uint8)


def test_an_image_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FeatureCache(tmp_path, 1e9)
    computed = first.maps(picture(1))
    assert len(list(tmp_path.glob("*/*"))) == 1
    second = FeatureCache(tmp_path, 1e9)

    def never(image: np.ndarray) -> FeatureMaps:
        raise AssertionError("computed again")

    monkeypatch.setattr(second.backbone, "maps", never)
    kept = second.maps(picture(1))
    assert all((a == b).all() for a, b in zip(computed.levels, kept.levels, strict=True))
    assert kept.image_hw == (64, 96)


def test_a_broken_file_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path, 1e9)
    before = cache.maps(picture(1)).of_image()
    (path,) = tmp_path.glob("*/*")
    path.write_bytes(path.read_bytes()[:100])
    assert (cache.maps(picture(1)).of_image() == before).all()
    assert "cannot be read and are computed again" in caplog.text


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 1e9)
    cache.maps(picture(1))
    (first,) = tmp_path.glob("*/*")
    cache.maps(picture(2))
    for hours_ago, path in enumerate(sorted(tmp_path.glob("*/*"), key=lambda path: path == first), 1):
        os.utime(path, times=(time.time() - hours_ago * 3600,) * 2)
    cache.maps(picture(1))
    cache.limit_bytes = first.stat().st_size
    assert cache.trim() == 1
    assert list(tmp_path.glob("*/*")) == [first]
