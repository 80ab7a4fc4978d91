from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from model.engines.selection import Selection, masks_of_any_class, select
from tests.shared import shared

FAR_APART = [[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]


def worked_example(name: str) -> dict[str, Any]:
    examples = json.loads(shared("maskal_examples.json").read_text())["postprocess"]
    assert len(examples) == 2, "every worked example is checked"
    return next(example for example in examples if example["id"] == name)


def select_example(example: dict[str, Any]) -> tuple[Selection, torch.Tensor]:
    probabilities = torch.tensor(example["probs_with_background_last"])[:, :-1]
    selection = select(
        torch.tensor(example["boxes_per_class"]),
        probabilities,
        confidence_threshold=example["score_thresh"],
        nms_threshold=example["nms_thresh"],
        limit=example["topk"],
    )
    return selection, probabilities


def select_boxes(
    boxes: list[list[float]], probabilities: list[list[float]], *, nms_threshold: float = 0.2, limit: int = 100
) -> Selection:
    """Selection above 0.5, where a proposal has the same box for every class."""
    rows = torch.tensor(probabilities)
    return select(
        torch.tensor(boxes).reshape(-1, 1, 4).expand(-1, rows.shape[1], 4),
        rows,
        confidence_threshold=0.5,
        nms_threshold=nms_threshold,
        limit=limit,
    )


def test_the_selection_is_that_of_the_original() -> None:
    example = worked_example("foreground_softmax_and_cross_class_nms")
    selection, probabilities = select_example(example)
    expected = example["expected"]
    assert selection.proposals.tolist() == expected["proposal_index"]
    assert selection.labels.tolist() == expected["classes"]
    assert selection.boxes_xyxy.tolist() == expected["boxes"]
    assert selection.scores.tolist() == pytest.approx(expected["scores"], abs=1e-6)
    torch.testing.assert_close(
        probabilities[selection.proposals], torch.tensor(expected["softmaxes"]), atol=1e-6, rtol=0
    )


def test_a_proposal_of_two_classes_keeps_its_own_row_where_the_original_breaks() -> None:
    example = worked_example("threshold_below_half_row_pair_mismatch")
    assert "IndexError" in example["expected"]["error"]
    selection, probabilities = select_example(example)
    assert selection.proposals.tolist() == [1, 0, 0]
    assert selection.labels.tolist() == [1, 0, 1]
    rows = probabilities[selection.proposals]
    assert torch.equal(rows, torch.tensor([[0.1, 0.7], [0.45, 0.4], [0.45, 0.4]]))
    assert torch.equal(rows.gather(1, selection.labels[:, None])[:, 0], selection.scores)


def test_detections_come_best_first() -> None:
    selection = select_boxes(FAR_APART, [[0.6], [0.9], [0.7]])
    assert selection.proposals.tolist() == [1, 2, 0]
    assert selection.boxes_xyxy.tolist() == [FAR_APART[1], FAR_APART[2], FAR_APART[0]]


def test_a_score_equal_to_the_threshold_does_not_pass() -> None:
    assert select_boxes(FAR_APART, [[0.5], [0.5078125], [0.25]]).proposals.tolist() == [1]


def test_the_weaker_of_two_overlapping_boxes_goes_whatever_its_class() -> None:
    boxes = [[0.0, 0, 10, 10], [1, 0, 11, 10]]
    selection = select_boxes(boxes, [[0.6, 0.1], [0.1, 0.8]])
    assert (selection.proposals.tolist(), selection.labels.tolist()) == ([1], [1])


def test_boxes_that_overlap_by_just_the_threshold_both_stay() -> None:
    boxes = [[0.0, 0, 4, 4], [0, 0, 2, 2]]  # IoU 0.25
    assert select_boxes(boxes, [[0.9], [0.8]], nms_threshold=0.25).proposals.tolist() == [0, 1]
    assert select_boxes(boxes, [[0.9], [0.8]], nms_threshold=0.24).proposals.tolist() == [0]


def test_a_removed_box_removes_no_other() -> None:
    chain = [[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]]
    assert select_boxes(chain, [[0.9], [0.8], [0.7]]).proposals.tolist() == [0, 2]


def test_only_the_best_are_kept_up_to_the_limit() -> None:
    assert select_boxes(FAR_APART, [[0.6], [0.9], [0.7]], limit=2).proposals.tolist() == [1, 2]


@pytest.mark.parametrize("probabilities", [[[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]], []])
def test_nothing_above_the_threshold_is_an_empty_selection(probabilities: list[list[float]]) -> None:
    rows = torch.tensor(probabilities).reshape(-1, 2)
    boxes = torch.zeros((len(rows), 2, 4))
    selection = select(boxes, rows, confidence_threshold=0.5, nms_threshold=0.2, limit=100)
    assert [len(field) for field in (selection.proposals, selection.labels, selection.scores)] == [0, 0, 0]
    assert selection.boxes_xyxy.shape == (0, 4)


def test_an_object_of_doubtful_class_is_found_when_any_class_will_do() -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 9]] * 2, [[20.0, 0, 29, 9]] * 2])
    probabilities = torch.tensor([[0.45, 0.40], [0.2, 0.2]])
    settings = {"confidence_threshold": 0.5, "nms_threshold": 0.2, "limit": 10}
    assert len(select(boxes, probabilities, **settings).scores) == 0
    found = select(boxes, probabilities, **settings, any_class=True)
    assert (found.proposals.tolist(), found.labels.tolist()) == ([0], [0])
    assert found.scores.tolist() == pytest.approx([0.45])


def squares(*sides: int) -> torch.Tensor:
    """Masks (1, c, 10, 10), a square of each side filled at 0.9 and the rest at 0.1."""
    masks = torch.full((1, len(sides), 10, 10), 0.1)
    for index, side in enumerate(sides):
        masks[0, index, :side, :side] = 0.9
    return masks


def test_an_object_of_doubtful_class_is_outlined_by_its_classes_together() -> None:
    mask = masks_of_any_class(squares(10, 6), torch.tensor([[0.3, 0.1]]))[0]
    assert mask[0, 0] == pytest.approx(0.9)
    assert mask[9, 9] == pytest.approx(0.75 * 0.9 + 0.25 * 0.1)


@pytest.mark.parametrize("wrong", [2, 0], ids=["specks", "nothing"])
def test_a_class_that_sees_hardly_anything_in_the_box_does_not_outline_it(wrong: int) -> None:
    """A pre-label of specks: the wrong class is the likelier one, and the right one alone fills the box."""
    masks = squares(wrong, 8, 9)
    assert torch.equal(masks_of_any_class(masks, torch.tensor([[0.6, 0.2, 0.01]])), masks[:, 1])


def test_a_thin_object_is_outlined_by_its_likely_class() -> None:
    """It fills little of its box whatever its class."""
    masks = squares(0, 0)
    masks[0, :] = torch.eye(10) * 0.9
    assert torch.equal(masks_of_any_class(masks, torch.tensor([[0.6, 0.2]])), masks[:, 0])


def test_no_object_has_no_mask() -> None:
    assert masks_of_any_class(torch.zeros(0, 3, 28, 28), torch.zeros(0, 3)).shape == (0, 28, 28)
