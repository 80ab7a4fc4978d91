from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backend.rounds.reasons import Reasons
from backend.rounds.scored import Scored
from backend.rounds.seen_objects import SeenImage
from model.rankings import RankedTask
from sampling.coverage import ObjectsOfImage

CLASSES = ("leaf", "rust", "miner")
CERTAINTIES = (0.2, 0.1, 0.3, 0.4)


def seen(*objects: tuple[list[float], float]) -> SeenImage:
    """Objects, each with its class probabilities and uncertainty."""
    probabilities, uncertainties = (np.array(part) for part in zip(*objects, strict=True))
    return SeenImage(ObjectsOfImage(np.zeros((len(objects), 4)), probabilities, uncertainties), np.zeros(4))


def reason(strategy: str, counts: tuple[float, ...] = (1, 0, 0), seen: SeenImage | None = None, **fields: Any) -> str:
    """That of task 1, which has the second lowest certainty of four; most open images show a leaf."""
    scored = {task: Scored(c, [], (4, 0, 1)) for task, c in enumerate(CERTAINTIES, start=1)}
    row = RankedTask(
        **{"task": 1, "certainty": 0.2, "place": 0, "score": 0.0, "split": "train", "regions": [], **fields}
    )
    scored[1] = Scored(row.certainty, [], counts, seen=seen)
    (told,) = Reasons.of(strategy, CLASSES, scored).told([row])
    return told.reason


@pytest.mark.parametrize("strategy", ["uncertainty", "class_aware", "coverage", "random"])
def test_what_stands_where_it_does_by_rule_says_so_whatever_the_strategy(strategy: str) -> None:
    assert reason(strategy, split="val") == "a validation image, by chance"
    assert reason(strategy, is_control=True) == "drawn at random, as the control group"
    assert "near copy of task 7" in reason(strategy, copy_of=7)


def test_the_least_certain_first_is_said_only_where_it_is_so() -> None:
    doubt = "less certain than 67 % of the open images"
    assert reason("uncertainty") == doubt
    assert reason("diverse") == f"unlike those before it; {doubt}"
    for strategy in ("random", "class_turns", "certainty", "coverage"):
        assert "less certain" not in reason(strategy)
    assert reason("uncertainty", certainty=0.0) == "the least certain of the open images"
    assert reason("uncertainty", certainty=None) == "nothing was found in it"


def test_the_only_open_image_is_the_least_certain_one() -> None:
    reasons = Reasons.of("uncertainty", CLASSES, {1: Scored(0.4, [], (1, 0, 0))})
    assert reasons.reason(RankedTask(1, 0.4, 0, 0.4, "train", [])) == "the least certain of the open images"


def test_a_class_whose_turn_it_is_is_named_and_a_rare_one_first() -> None:
    assert reason("class_aware").startswith("the turn of leaf; ")
    assert reason("class_aware", (1, 0, 1)).startswith("rare class miner; ")
    assert reason("stratified", (0, 0, 0)).startswith("its class's turn; ")


def test_no_class_is_rare_where_all_are_about_as_common() -> None:
    scored = {task: Scored(0.1 * task, [], (1, 0, 1) if task < 4 else (1, 0, 0.5)) for task in range(1, 6)}
    [last] = Reasons.of("class_aware", CLASSES, scored).told([RankedTask(3, 0.3, 0, 0.0, "train", [])])
    assert last.reason.startswith("the turn of leaf or miner; ")


def test_coverage_names_the_doubt_about_an_object_or_that_it_is_new() -> None:
    torn, sure = ([0.1, 0.5, 0.4], 0.9), ([0.9, 0.1, 0.0], 0.1)
    assert reason("coverage", seen=seen(sure, torn)) == "rust or miner?"
    assert reason("coverage", seen=seen(sure)) == "unlike what is annotated"
    patch = ([1 / 3, 1 / 3, 1 / 3], 0.5)
    assert reason("coverage", certainty=None, seen=seen(patch)) == "unlike what is annotated"
