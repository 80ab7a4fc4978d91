from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sampling.observations import Observation, Pass, crop, group, intersection
from tests.sampling.passes import FakePass, fake_pass, rectangle

EMPTY = np.zeros((10, 10), bool)


def members(passes: Sequence[Pass], iou_threshold: float = 0.5) -> list[list[tuple[int, int]]]:
    return [list(observation.members) for observation in group(passes, iou_threshold)]


def grouped_plainly(passes: Sequence[FakePass], threshold: float) -> list[list[tuple[int, int]]]:
    """MASKAL.md section 3 word by word, on whole masks."""
    groups: list[list[tuple[int, int]]] = []
    for t, found in enumerate(passes):
        for i, mask in enumerate(found.masks):
            for members in groups:
                first = passes[members[0][0]].masks[members[0][1]]
                union = np.float32((first | mask).sum())
                if union == 0 or np.float32((first & mask).sum()) / union > np.float32(threshold):
                    members.append((t, i))
                    break
            else:
                groups.append([(t, i)])
    return groups


@st.composite
def some_passes(draw: st.DrawFn) -> list[FakePass]:
    """Up to 3 passes of up to 4 masks: rectangles that often overlap, some scattered pixels, some empty."""
    size = (6, 7)
    spans = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(sorted)
    rectangles = st.builds(lambda rows, columns: rectangle(*rows, *columns, size_hw=size), spans, spans)
    masks = st.one_of(rectangles, arrays(bool, size))
    found = draw(st.lists(st.lists(masks, max_size=4), min_size=1, max_size=3))
    return [fake_pass(*masks, size_hw=size) for masks in found]


@settings(max_examples=200, deadline=None)
@given(some_passes(), st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 1.0]))
def test_cropped_comparison_equals_the_plain_double_loop(passes: list[FakePass], threshold: float) -> None:
    assert members(passes, threshold) == grouped_plainly(passes, threshold)


def test_one_object_seen_in_two_passes_is_one_observation() -> None:
    seen = rectangle(0, 4, 0, 4)
    assert group([fake_pass(seen), fake_pass(seen)], 0.5) == (Observation(((0, 0), (1, 0))),)


def test_no_detection_is_no_observation() -> None:
    assert group([fake_pass(), fake_pass()], 0.5) == ()


@pytest.mark.parametrize(("shared_rows", "threshold"), [(5, 0.5), (3, 0.3), (6, 0.6), (7, 0.7)])
def test_iou_equal_to_the_threshold_does_not_join(shared_rows: int, threshold: float) -> None:
    passes = [fake_pass(rectangle(0, 10, 0, 1)), fake_pass(rectangle(0, shared_rows, 0, 1))]
    assert members(passes, threshold) == [[(0, 0)], [(1, 0)]]
    assert members(passes, threshold - 0.01) == [[(0, 0), (1, 0)]]


def test_only_the_first_member_is_compared() -> None:
    drifting = [rectangle(0, 1, start, start + 6) for start in (0, 1, 2)]
    passes = [fake_pass(mask) for mask in drifting]  # IoU 5/7 with the next, 4/8 with the one after it
    assert members(passes) == [[(0, 0), (1, 0)], [(2, 0)]]


def test_the_first_group_above_the_threshold_wins_over_a_better_one() -> None:
    early, late = rectangle(0, 6, 0, 1), rectangle(0, 10, 0, 1)
    assert members([fake_pass(early, late), fake_pass(late)], 0.6) == [[(0, 0)], [(0, 1), (1, 0)]]
    assert members([fake_pass(early, late), fake_pass(rectangle(0, 9, 0, 1))], 0.6) == [[(0, 0), (1, 0)], [(0, 1)]]


def test_two_detections_of_one_pass_may_share_an_observation() -> None:
    seen = rectangle(2, 8, 2, 8)
    assert members([fake_pass(seen, seen)]) == [[(0, 0), (0, 1)]]


def test_the_class_is_ignored() -> None:
    seen = rectangle(2, 8, 2, 8)
    passes = [fake_pass(seen, softmax=(0.9, 0.1)), fake_pass(seen, softmax=(0.1, 0.9))]
    assert members(passes) == [[(0, 0), (1, 0)]]


def test_two_empty_masks_join_and_an_empty_one_never_joins_an_object() -> None:
    assert members([fake_pass(EMPTY, rectangle(0, 4, 0, 4)), fake_pass(EMPTY)]) == [[(0, 0), (1, 0)], [(0, 1)]]


def test_a_crop_is_a_view_of_its_window() -> None:
    mask = rectangle(2, 5, 3, 9)
    cropped = crop(mask)
    assert (cropped.window, cropped.area, cropped.pixels.shape) == ((2, 5, 3, 9), 18, (3, 6))
    assert np.shares_memory(cropped.pixels, mask)


def test_masks_share_pixels_only_where_both_have_some() -> None:
    ring = rectangle(0, 5, 0, 5) & ~rectangle(1, 4, 1, 4)
    assert intersection(crop(ring), crop(rectangle(2, 3, 2, 3))) == 0
    assert intersection(crop(ring), crop(rectangle(4, 9, 3, 9))) == 2
    assert intersection(crop(ring), crop(rectangle(5, 9, 5, 9))) == 0


def by_score(passes: Sequence[Pass], iou_threshold: float = 0.5) -> list[list[tuple[int, int]]]:
    return [list(observation.members) for observation in group(passes, iou_threshold, exact=False)]


def drifting(*scores: float) -> list[FakePass]:
    """The same object a column further right in each pass, found with these scores."""
    return [fake_pass(rectangle(0, 1, t, t + 6), softmax=(s, 1 - s)) for t, s in enumerate(scores)]


def test_by_score_the_best_detection_of_an_object_gathers_the_others() -> None:
    assert by_score(drifting(0.6, 0.9, 0.7)) == [[(0, 0), (1, 0), (2, 0)]]
    assert by_score(drifting(0.9, 0.7, 0.6)) == [[(0, 0), (1, 0)], [(2, 0)]]


def test_by_score_the_order_of_the_passes_does_not_matter() -> None:
    passes = drifting(0.6, 0.9, 0.7)
    turned = passes[::-1]
    assert {len(o) for o in by_score(turned)} == {len(o) for o in by_score(passes)} == {3}
    assert [len(o) for o in members(turned)] == [2, 1], "the published grouping depends on it"


def test_by_score_a_detection_joins_what_it_overlaps_most() -> None:
    early, late = rectangle(0, 6, 0, 1), rectangle(0, 10, 0, 1)
    passes = [fake_pass(early, late, softmax=(0.9, 0.1)), fake_pass(rectangle(0, 9, 0, 1), softmax=(0.8, 0.2))]
    assert sorted(by_score(passes, 0.6)) == [[(0, 0)], [(0, 1), (1, 0)]]
    assert members(passes, 0.6) == [[(0, 0), (1, 0)], [(0, 1)]], "the published grouping takes the first"


def test_by_score_empty_masks_are_one_observation() -> None:
    assert sorted(by_score([fake_pass(EMPTY, rectangle(0, 4, 0, 4)), fake_pass(EMPTY)])) == [[(0, 0), (1, 0)], [(0, 1)]]


masks = arrays(bool, (4, 4))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(masks, max_size=3), min_size=1, max_size=4), st.randoms())
def test_by_score_every_detection_is_in_one_observation_whatever_the_order(found, random) -> None:
    scores = iter(np.linspace(0.99, 0.51, 12))
    passes = [
        FakePass(
            boxes_xyxy=np.zeros((len(row), 4), np.float32),
            softmaxes=np.array([[next(scores)] for _ in row], np.float32).reshape(-1, 1),
            masks=np.array(row, bool).reshape(-1, 4, 4),
        )
        for row in found
    ]
    every = [(t, i) for t, p in enumerate(passes) for i in range(len(p.masks))]
    assert sorted(m for o in by_score(passes) for m in o) == every
    order = random.sample(range(len(passes)), len(passes))
    turned = [[(order[t], i) for t, i in o] for o in by_score([passes[t] for t in order])]
    assert sorted(sorted(o) for o in turned) == sorted(by_score(passes))


def test_a_mask_may_lie_anywhere_on_the_grid() -> None:
    whole = rectangle(2, 6, 3, 8)
    cut = crop(whole[1:7, 2:9], (1, 2))
    assert (cut.window, cut.area) == (crop(whole).window, crop(whole).area)
    assert intersection(cut, crop(whole)) == whole.sum()
