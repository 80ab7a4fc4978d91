from __future__ import annotations

import numpy as np
import pytest
import torch

from model.engines.base import Engine, EngineConfig
from model.engines.loader import build_engine
from model.errors import NoOutline
from model.outlining.base import Click
from model.outlining.network import NetworkOutliner
from tests.backend.outlined_photos import COLOURS, picture


class Noted:
    """An outliner that notes what it was asked and answers everything with the first pixel."""

    classes = ()

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None]] = []

    def look(self, image: np.ndarray) -> tuple[int, ...]:
        return image.shape[:2]

    def in_box(self, size_hw: tuple[int, int], box_xyxy: np.ndarray, label: int | None) -> np.ndarray:
        raise NoOutline("nothing in the box differs")

    def at_point(self, size_hw: tuple[int, int], click: Click, label: int | None) -> np.ndarray:
        self.asked.append(("click", label))
        mask = np.zeros(size_hw, bool)
        mask[0, 0] = True
        return mask


@pytest.fixture
def engine() -> Engine:
    made = build_engine("fake", tuple(COLOURS), EngineConfig())
    made.load_tensors({"colours": torch.tensor(list(COLOURS.values())) / 255}, tuple(COLOURS))
    return made


def square(x: int, y: int) -> np.ndarray:
    mask = np.zeros((128, 128), bool)
    mask[y : y + 32, x : x + 32] = True
    return mask


IMAGE = picture({"tomato": [(8, 16)], "plum": [(80, 72)]})


@pytest.mark.parametrize(("x", "y"), [(8, 16), (80, 72)])
@pytest.mark.parametrize("label", [None, 0, 1])
def test_a_click_gives_the_object_that_is_predicted_there_whatever_its_label(
    engine: Engine, x: int, y: int, label: int | None
) -> None:
    other = Noted()
    outliner = NetworkOutliner(engine, other)
    mask = outliner.at_point(outliner.look(IMAGE), Click(np.array([x + 10.0, y + 10.0])), label)
    truth = square(x, y)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    assert other.asked == []


def test_what_the_network_does_not_see_at_a_click_is_the_other_outliners(engine: Engine) -> None:
    other = Noted()
    outliner = NetworkOutliner(engine, other)
    seen = outliner.look(IMAGE)
    assert outliner.at_point(seen, Click(np.array([60.0, 120.0])), 1)[0, 0]
    beside = Click(np.array([20.0, 30.0]), np.array([[25.0, 20.0]]))
    assert outliner.at_point(seen, beside, 0)[0, 0], "its only object there covers a point that it should not"
    assert other.asked == [("click", None)] * 2, "which knows no classes"


def test_an_object_of_the_chosen_label_comes_first_and_a_faint_one_is_found_too(engine: Engine) -> None:
    class Two:
        """An engine that sees two objects over each other, one of them faintly."""

        classes, config = engine.classes, engine.config

        def encode(self, images: list[np.ndarray]) -> list[object]:
            return [None]

        def decode(self, encoded: object, *, confidence_threshold: float, any_class: bool) -> object:
            found = engine.predict(picture({"tomato": [(8, 16)], "plum": [(20, 20)]}))
            scores = np.array([0.9, 0.2], np.float32)
            masks = np.stack([square(8, 16), square(20, 20)])
            kept = scores > confidence_threshold
            return type(found)(
                np.array([[8, 16, 40, 48], [20, 20, 52, 52]], np.float32)[kept],
                scores[kept],
                np.array([0, 1])[kept],
                np.eye(2, dtype=np.float32)[kept],
                masks[kept],
            )

    outliner = NetworkOutliner(Two(), Noted())  # type: ignore[arg-type]
    seen = outliner.look(IMAGE)
    both, only_faint = Click(np.array([30.0, 30.0])), Click(np.array([48.0, 48.0]))
    assert outliner.at_point(seen, both, 1)[17, 9], "the sure one, though it is of the other label"
    assert outliner.at_point(seen, only_faint, 0)[50, 50]


def test_a_box_in_which_the_network_sees_nothing_has_a_reason(engine: Engine) -> None:
    outliner = NetworkOutliner(engine, Noted())
    seen = outliner.look(IMAGE)
    assert outliner.in_box(seen, np.array([6.0, 14, 42, 50]), 0)[30, 20]
    with pytest.raises(NoOutline, match="nothing in the box differs"):
        outliner.in_box(seen, np.array([50.0, 100, 70, 120]), None)


def test_features_are_computed_once_an_image_and_only_when_they_are_needed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    for name in ("features", "encode"):
        method = getattr(engine, name)

        def counting(given: object, name: str = name, method=method) -> object:
            counted.append(name)
            return method(given)

        monkeypatch.setattr(engine, name, counting)
    outliner = NetworkOutliner(engine, Noted())
    seen = outliner.look(IMAGE)
    assert counted == []
    for _ in range(2):
        outliner.in_box(seen, np.array([6.0, 14, 42, 50]), 0)
    assert counted == ["features"]
    for _ in range(2):
        outliner.at_point(seen, Click(np.array([20.0, 30.0])), 0)
    assert counted.count("encode") == 1
