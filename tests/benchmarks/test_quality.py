from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pytest

from backend.errors import BadSetting
from model.engines.torchvision.heads import SCALES
from model.records import Outline, Polygon, Record
from tests.benchmarks.quality import Recipe, pairs, stratified_draw

SQUARE = (Polygon(np.array([[0, 0], [9, 0], [9, 9], [0, 9]], float)),)
RECORDS = [Record(f"{i}.jpg", (20, 20), (Outline("rare" if i < 10 else "common", SQUARE),)) for i in range(50)]


def options(**changes: object) -> argparse.Namespace:
    known = {
        "network": None,
        "iterations": None,
        "weights": None,
        "set": [],
        "train": [],
        "fact": [],
        "input_scale": 1.0,
        "starts": None,
    }
    return argparse.Namespace(**{**known, **changes})


def test_a_draw_has_each_classs_share_and_grows_by_what_it_lacks() -> None:
    few, more = stratified_draw(RECORDS, 10, seed=1), stratified_draw(RECORDS, 30, seed=1)
    assert Counter(r.outlines[0].label for r in few) == {"rare": 2, "common": 8}
    assert {r.image for r in few} < {r.image for r in more} and len(more) == 30
    assert stratified_draw(RECORDS, 10, seed=1) == few != stratified_draw(RECORDS, 10, seed=2)


def test_settings_are_checked_and_told() -> None:
    recipe = Recipe.of(options(network="lite", set=["freeze_at=2", "backbone_rate=0.3"], fact=["width=96"]))
    assert (recipe.settings.freeze_at, recipe.settings.backbone_rate) == (2, 0.3)
    assert recipe.engine_config("cpu").network_facts["width"] == 96
    assert recipe.changes()["settings"] == {"network_config": "lite", "freeze_at": 2, "backbone_rate": 0.3}
    with pytest.raises(BadSetting, match="unknown setting 'freez'"):
        Recipe.of(options(set=["freez=1"]))


def test_an_input_that_is_adapted_is_scaled_too() -> None:
    known = Recipe.of(options(input_scale=1.5)).input_range(SCALES["small"].input)
    assert (known.shortest, known.longest, known.largest, known.visible) == (288, 384, 768, 12)


def test_values_are_read_as_yaml_has_them() -> None:
    assert pairs(["a=1", "b=0.5", "c=true", "d=x=y"]) == {"a": 1, "b": 0.5, "c": True, "d": "x=y"}
