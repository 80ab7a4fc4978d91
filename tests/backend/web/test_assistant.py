from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from backend.label_studio.annotations import read_outlines
from backend.web.assistant import Assistant, choose_outliner
from backend.web.interactive import read_context
from model.engines.base import EngineConfig
from model.engines.loader import build_engine
from model.errors import NoOutline
from model.geometry import polygons_to_mask
from model.outlining.base import Click
from tests.backend.web.smart_tools import CONFIG, box, point

SIZE = (120, 160)


def picture() -> np.ndarray:
    image = np.full((*SIZE, 3), 250, np.uint8)
    image[30:90, 20:80] = (215, 30, 30)
    image[30:90, 100:150] = (30, 30, 215)
    return image


def trained() -> Assistant:
    engine = build_engine("fake", ("red", "blue"), EngineConfig())
    engine.load_tensors({"colours": torch.tensor([[0.85, 0.1, 0.1], [0.1, 0.1, 0.85]])}, ("red", "blue"))
    return Assistant(choose_outliner(engine))


def untrained() -> Assistant:
    return Assistant(choose_outliner(None))


def ask(assistant: Assistant, context: dict, load: Callable[[], np.ndarray] = picture) -> list[dict]:
    return assistant.answer(read_context(context, CONFIG), "image", load, CONFIG)


def seen(regions: list[dict]) -> dict[str, np.ndarray]:
    """The mask of each object that regions show, by label; one of each."""
    outlines, problems = read_outlines({"id": 1, "result": regions}, CONFIG, SIZE)
    assert problems == () and len({outline.label for outline in outlines}) == len(outlines)
    return {outline.label: polygons_to_mask(outline.parts, SIZE) for outline in outlines}


def is_red_square(mask: np.ndarray) -> bool:
    truth = np.zeros(SIZE, bool)
    truth[30:90, 20:80] = True
    return bool((mask & truth).sum() / (mask | truth).sum() > 0.9)


@pytest.mark.parametrize(("network", "grabcut", "knows_red"), [(0.9, 0.8, True), (0.7, 0.8, False)])
def test_a_box_is_answered_by_whoever_was_better_at_boxes(network: float, grabcut: float, knows_red: bool) -> None:
    """The network finds a red object only; GrabCut whatever is in the box."""
    engine = build_engine("fake", ("red",), EngineConfig())
    engine.load_tensors({"colours": torch.tensor([[0.85, 0.1, 0.1]])}, ("red",))
    asked: list[str] = []
    segment = engine.segment
    engine.segment = lambda *args: (asked.append("network"), segment(*args))[1]  # type: ignore[method-assign]
    outliner = choose_outliner(engine, {"objects": 30, "network": network, "grabcut": grabcut})
    assert is_red_square(outliner.in_box(outliner.look(picture()), np.array([15.0, 25, 85, 95]), None))
    assert bool(asked) is knows_red


def test_what_the_network_does_not_see_in_a_box_grabcut_outlines() -> None:
    engine = build_engine("fake", ("red",), EngineConfig())
    engine.load_tensors({"colours": torch.tensor([[0.85, 0.1, 0.1]])}, ("red",))
    outliner = choose_outliner(engine)
    mask = outliner.in_box(outliner.look(picture()), np.array([96.0, 26, 154, 94]), None)
    assert mask[60, 125] and mask.sum() == pytest.approx(50 * 60, rel=0.1)


BOTH = pytest.mark.parametrize("make", [untrained, trained], ids=["before version 1", "version 1"])


@BOTH
@pytest.mark.parametrize("context", [box(6, 15, 50, 70), point(30, 50)], ids=["box", "click"])
def test_the_object_is_outlined_by_the_best_control_without_a_score(make, context: dict) -> None:
    regions = ask(make(), context)
    assert {region["type"] for region in regions} == {"polygonlabels"}
    assert all("score" not in region for region in regions)
    assert is_red_square(seen(regions)["red"])


@BOTH
@pytest.mark.parametrize("context", [box(60, 15, 39, 70, "new"), point(78, 50, "new")], ids=["box", "click"])
def test_a_label_that_was_not_learned_yet_outlines_whatever_is_there(make, context: dict) -> None:
    assert seen(ask(make(), context))["new"][60, 125]


@BOTH
@pytest.mark.parametrize("context", [box(80, 80, 19, 19), point(5, 5)], ids=["box", "click"])
def test_an_empty_place_gives_no_region_and_a_reason(make, context: dict) -> None:
    blank = np.full((*SIZE, 3), 250, np.uint8)
    with pytest.raises(NoOutline, match=r"nothing|sees no object"):
        ask(make(), context, lambda: blank)


@BOTH
def test_two_outlines_of_one_annotation_never_share_an_id(make) -> None:
    assistant = make()
    ids = {ask(assistant, box(6, 15, 50, 70))[0]["id"] for _ in range(20)}
    assert len(ids) == 20


def test_clicks_that_were_not_accepted_yet_keep_their_answers_each_object_once() -> None:
    clicks = [p["result"][0] for p in (point(20, 50), point(40, 40), point(80, 50))]
    regions = ask(untrained(), {"result": [{**click, "is_positive": True} for click in clicks]})
    outlines, _ = read_outlines({"id": 1, "result": regions}, CONFIG, SIZE)
    assert len(outlines) == 2, "the first two are on one object"


def test_an_image_is_loaded_once_and_the_last_three_are_kept() -> None:
    loaded: list[str] = []
    assistant, asked = untrained(), read_context(box(6, 15, 50, 70), CONFIG)

    def at(address: str) -> None:
        assistant.answer(asked, address, lambda: loaded.append(address) or picture(), CONFIG)

    for address in "aabcadb":
        at(address)
    assert loaded == ["a", "b", "c", "d", "b"], "b was forgotten when d came"


def test_a_box_tells_how_large_the_objects_of_its_label_are() -> None:
    class Noting:
        classes = ()
        sides: list[float | None] = []  # noqa: RUF012

        def look(self, image: np.ndarray) -> np.ndarray:
            return image

        def in_box(self, image: np.ndarray, box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
            return np.ones(SIZE, bool)

        def at_point(self, image: np.ndarray, click: Click, label: int | None) -> np.ndarray:
            self.sides.append(click.side_px)
            return np.ones(SIZE, bool)

    outliner = Noting()
    assistant = Assistant(outliner)
    for context in (point(30, 50), box(10, 10, 25, 50), point(30, 50), point(30, 50, "blue")):
        ask(assistant, context)
    assert outliner.sides == [None, 60.0, None]
