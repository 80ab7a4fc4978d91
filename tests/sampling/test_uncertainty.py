from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from model.instances import Instances
from sampling.observations import Observation, crop, crop_masks, group
from sampling.uncertainty import (
    MODES,
    ObservationCertainty,
    box_certainty,
    box_ious,
    image_certainty,
    mask_certainty,
    mask_ious,
    observation_certainty,
    occurrence,
    semantic_certainties,
    semantic_certainty,
)
from tests.sampling.passes import FakePass, fake_pass, rectangle
from tests.shared import shared

EXAMPLES = {
    "multi_class_4_passes",
    "mean_mask_cut_8_passes",
    "iou_exactly_at_threshold",
    "nothing_detected",
    "empty_masks",
}
EMPTY = np.zeros((10, 10), bool)
SEEN = rectangle(2, 6, 2, 6)


def worked_example(name: str) -> dict[str, Any]:
    examples = json.loads(shared("maskal_examples.json").read_text())["certainty"]
    return next(example for example in examples if example["id"] == name)


def passes_of(example: dict[str, Any]) -> list[FakePass]:
    size, classes = (example["height"], example["width"]), example["num_classes"]
    return [
        FakePass(
            boxes_xyxy=np.array([d["box"] for d in found], np.float32).reshape(-1, 4),
            softmaxes=np.array([d["softmaxes"] for d in found], np.float32).reshape(-1, classes),
            masks=np.array([d["mask"] for d in found], bool).reshape(-1, *size),
        )
        for found in example["passes"]
    ]


def close(expected: Any) -> Any:
    numbers = [float(x) for x in expected] if isinstance(expected, list) else float(expected)
    return pytest.approx(numbers, abs=1e-5, rel=0, nan_ok=True)


def test_every_worked_example_is_checked() -> None:
    examples = json.loads(shared("maskal_examples.json").read_text())["certainty"]
    assert {example["id"] for example in examples} == EXAMPLES


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_groups_and_values_are_those_of_the_original(name: str) -> None:
    example = worked_example(name)
    passes, expected = passes_of(example), example["expected"]
    found = group(passes, example["iou_thres"])
    assert [[list(member) for member in o.members] for o in found] == expected["groups"]
    assert set(expected["value"]) == set(MODES)
    for mode, value in expected["value"].items():
        assert image_certainty(passes, iou_threshold=example["iou_thres"], mode=mode) == close(value)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_intermediates_are_those_of_the_original(name: str) -> None:
    example = worked_example(name)
    passes = passes_of(example)
    observations = group(passes, example["iou_thres"])
    for observation, expected in zip(observations, example["expected"]["observations"], strict=True):
        masks = [crop(passes[t].masks[i]) for t, i in observation.members]
        softmaxes = np.stack([passes[t].softmaxes[i] for t, i in observation.members])
        boxes = np.stack([passes[t].boxes_xyxy[i] for t, i in observation.members])
        ious = mask_ious(masks)
        assert len(observation.members) == expected["n"]
        assert semantic_certainties(softmaxes) == close(expected["inv_entropy"])
        assert boxes.mean(0) == close(expected["mean_box"])
        assert box_ious(boxes) == close(expected["box_ious"])
        assert (ious[:1] if np.isnan(ious).all() else ious) == close(expected["mask_ious"])

        certainty = observation_certainty(observation, passes, crop_masks(passes))
        assert certainty.semantic == semantic_certainty(softmaxes) == close(expected["u_sem"])
        assert certainty.box == box_certainty(boxes) == close(expected["u_spl_b"])
        assert certainty.mask == close(expected["u_spl_m"])
        assert certainty.mask * certainty.box == close(expected["u_spl"])
        assert certainty.occurrence == close(expected["u_n"])
        assert certainty.certainty == close(expected["u_h"])


def test_certainty_is_the_product_of_the_four() -> None:
    assert ObservationCertainty(0.5, 0.5, 0.8, 0.25).certainty == pytest.approx(0.05)
    assert math.isnan(ObservationCertainty(0.5, 0.5, float("nan"), 0.25).certainty)


def test_one_class_is_as_certain_as_its_probability() -> None:
    assert semantic_certainty(np.array([[0.6], [0.8]], np.float32)) == pytest.approx(0.7)


def test_undecided_softmax_is_certainty_zero_and_a_decided_one_is_one() -> None:
    assert semantic_certainty(np.full((2, 4), 0.2, np.float32)) == pytest.approx(0, abs=1e-6)
    assert semantic_certainty(np.array([[0.0, 0.7, 0.0]], np.float32)) == 1


def test_background_is_normalised_away() -> None:
    half = np.array([[0.4, 0.1]], np.float32)
    assert semantic_certainty(half) == pytest.approx(semantic_certainty(half * 2))
    assert semantic_certainty(half) == pytest.approx(1 + (0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(2))


def test_boxes_are_one_pixel_larger_than_their_corners() -> None:
    boxes = np.array([[0, 0, 0, 0], [0, 0, 2, 0]], np.float32)  # 1 and 3 pixels wide, their mean 2
    assert box_ious(boxes) == pytest.approx([1 / 2, 2 / 3])
    assert box_certainty(boxes) == pytest.approx(7 / 12)


def test_boxes_far_apart_share_nothing_with_their_mean() -> None:
    assert box_certainty(np.array([[0, 0, 1, 1], [100, 100, 101, 101]], np.float32)) == 0


def test_a_quarter_of_the_masks_supports_a_pixel() -> None:
    small, large = rectangle(0, 2, 0, 2), rectangle(0, 2, 0, 4)
    assert mask_ious([crop(m) for m in (large, small, small, small)]) == pytest.approx([1, 0.5, 0.5, 0.5])
    assert mask_ious([crop(m) for m in (large, small, small, small, small)]) == pytest.approx([0.5, 1, 1, 1, 1])


def test_masks_without_a_common_pixel_support_nothing() -> None:
    scattered = [rectangle(row, row + 1, 0, 3) for row in range(5)]
    assert mask_certainty([crop(m) for m in scattered]) == 0


def test_an_empty_mask_is_counted_where_others_are_not_empty() -> None:
    assert mask_certainty([crop(SEEN), crop(EMPTY)]) == pytest.approx(0.5)


def test_an_empty_mask_without_any_support_is_skipped() -> None:
    scattered = [rectangle(row, row + 1, 0, 3) for row in range(5)]
    ious = mask_ious([crop(m) for m in (*scattered, EMPTY)])
    assert list(ious[:5]) == [0] * 5 and math.isnan(ious[5])
    assert mask_certainty([crop(m) for m in (*scattered, EMPTY)]) == 0


def test_only_empty_masks_have_no_mask_certainty() -> None:
    assert math.isnan(mask_certainty([crop(EMPTY), crop(EMPTY)]))


def test_occurrence_is_the_share_of_passes_and_at_most_one() -> None:
    assert [occurrence(1, 4), occurrence(4, 4), occurrence(6, 4)] == [0.25, 1, 1]


def test_occurrence_needs_a_pass() -> None:
    with pytest.raises(ValueError, match="at least 1 pass, got 0"):
        occurrence(1, 0)


def test_a_sharp_object_seen_in_every_pass_is_certain() -> None:
    assert image_certainty([fake_pass(SEEN)] * 3) == 1


def test_a_single_pass_leaves_the_softmax_to_decide() -> None:
    passes = [fake_pass(SEEN, softmax=(0.4, 0.1))]
    assert image_certainty(passes) == pytest.approx(semantic_certainty(passes[0].softmaxes))


@pytest.mark.parametrize("mode", MODES)
def test_no_detection_is_nan(mode: str) -> None:
    assert math.isnan(image_certainty([fake_pass(), fake_pass()], mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_one_object_of_empty_masks_makes_the_image_nan(mode: str) -> None:
    assert math.isnan(image_certainty([fake_pass(SEEN, EMPTY), fake_pass(SEEN)], mode=mode))


def test_an_object_of_empty_masks_is_wholly_uncertain_unless_exact() -> None:
    passes = [fake_pass(SEEN, EMPTY)] * 2
    assert [image_certainty(passes, mode=mode, exact=False) for mode in ("min", "mean", "max")] == [0, 0.5, 1]


def test_an_object_found_in_some_passes_only_is_less_certain() -> None:
    other = rectangle(7, 10, 7, 10)
    passes = [fake_pass(SEEN, other), fake_pass(SEEN), fake_pass(SEEN), fake_pass(SEEN)]
    values = [image_certainty(passes, mode=mode) for mode in ("min", "mean", "max")]
    assert values == pytest.approx([0.25, 0.625, 1])


def test_overlapping_objects_stay_two_observations() -> None:
    left, right = rectangle(0, 4, 0, 6), rectangle(0, 4, 4, 10)  # IoU 8 / 40
    passes = [fake_pass(left, right), fake_pass(right, left)]
    assert group(passes, 0.5) == (Observation(((0, 0), (1, 1))), Observation(((0, 1), (1, 0))))
    assert image_certainty(passes) == 1


def test_the_iou_threshold_decides_what_is_one_object() -> None:
    passes = [fake_pass(rectangle(0, 10, 0, 1)), fake_pass(rectangle(0, 6, 0, 1))]  # IoU 0.6
    assert image_certainty(passes, iou_threshold=0.7) == pytest.approx(0.5)  # two objects, each in half of the passes
    assert image_certainty(passes, iou_threshold=0.5) == pytest.approx(0.8 * (0.8 + 0.75) / 2)  # mean box: 8 of 10 high


def test_instances_are_a_pass() -> None:
    found = Instances(
        boxes_xyxy=np.array([[2, 2, 6, 6]], np.float32),
        scores=np.array([1], np.float32),
        labels=np.array([0]),
        softmaxes=np.array([[1, 0]], np.float32),
        masks=SEEN[None],
    )
    assert image_certainty([found, Instances.none((10, 10), 2)]) == 0.5


def test_an_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mode must be one of mean, min, max, got 'median'"):
        image_certainty([fake_pass(SEEN)], mode="median")
