import time
from dataclasses import replace

import numpy as np
import pytest

from model.judging.comparison import ap_difference, ap_intervals
from model.judging.evaluation import any_class, evaluate
from tests.model.scenes import boxes_to_detections, boxes_to_truth, random_scenes

NAMES = ("a", "b", "c")


def worse(detections, seed, share=0.4):
    """The same detections, of which a share is lost."""
    random = np.random.default_rng(seed)
    result = []
    for found in detections:
        kept = np.flatnonzero(random.random(len(found.labels)) > share)
        rles = tuple(found.rles[index] for index in kept)
        fields = {name: getattr(found, name)[kept] for name in ("labels", "scores", "boxes_xyxy")}
        result.append(replace(found, rles=rles, **fields))
    return result


@pytest.mark.parametrize("score_decimals", [9, 1])  # 1: many equal scores
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_without_resampling_it_is_the_difference_of_the_library_aps(score_decimals, class_agnostic):
    for seed in range(8):
        truths, old = random_scenes(seed, images=10, classes=3, score_decimals=score_decimals)
        new = worse(old, seed)
        observed = ap_difference(truths, old, new, 3, draws=2, seed=0, class_agnostic=class_agnostic).observed
        ap = [evaluate(truths, found, NAMES) for found in (old, new)]
        ap_old, ap_new = [each.mask_ap_any_class if class_agnostic else each.mask_ap for each in ap]
        assert observed == pytest.approx(ap_new - ap_old, abs=1e-6)


def test_a_resampled_ap_is_the_ap_of_the_repeated_images():
    truths, old = random_scenes(3, images=6, classes=2)
    new = worse(old, 0)
    drawn = np.random.default_rng(5).multinomial(3, np.full(6, 1 / 6), size=1)[0]
    chosen = np.repeat(np.arange(6), drawn)
    aps = [evaluate([truths[i] for i in chosen], [found[i] for i in chosen], NAMES[:2]).mask_ap for found in (old, new)]
    difference = ap_difference(truths, old, new, 2, draws=1, seed=5)
    assert difference.mean == difference.lower == difference.upper == pytest.approx(aps[1] - aps[0], abs=1e-6)


def test_a_model_compared_with_itself_differs_by_exactly_0():
    truths, found = random_scenes(0, images=12, classes=3)
    difference = ap_difference(truths, found, found, 3, draws=50, seed=1)
    assert (difference.observed, difference.mean, difference.lower, difference.upper) == (0.0, 0.0, 0.0, 0.0)
    assert difference.images == 12


def test_a_clearly_worse_model_is_seen_from_both_sides():
    truths, good = random_scenes(1, images=40, classes=2, shift_px=1)
    bad = worse(good, 0, share=0.7)
    assert ap_difference(truths, good, bad, 2, draws=200, seed=1).upper < 0
    assert ap_difference(truths, bad, good, 2, draws=200, seed=1).lower > 0


def test_a_slightly_different_model_is_not_called_worse():
    truths, found = random_scenes(2, images=12, classes=2)
    random = np.random.default_rng(0)
    other = [replace(each, scores=random.random(len(each.scores))) for each in found]
    difference = ap_difference(truths, found, other, 2, draws=200, seed=1)
    assert difference.observed != 0 and difference.lower < 0 < difference.upper


def test_the_bounds_are_percentiles_on_one_side():
    truths, old = random_scenes(4, images=20, classes=2)
    new = worse(old, 0)
    narrow = ap_difference(truths, old, new, 2, draws=400, seed=1, confidence=0.8)
    wide = ap_difference(truths, old, new, 2, draws=400, seed=1, confidence=0.99)
    assert wide.lower < narrow.lower < narrow.mean < narrow.upper < wide.upper
    assert narrow.mean == pytest.approx(wide.mean)


def test_the_same_seed_gives_the_same_answer():
    truths, old = random_scenes(4, images=10, classes=2)
    new = worse(old, 0)
    first, again, other = (ap_difference(truths, old, new, 2, draws=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_copies_of_an_image_that_belong_together_say_no_more_than_the_image():
    truths, old = random_scenes(4, images=20, classes=2)
    new = worse(old, 0, share=0.1)
    times = lambda rows: [row for row in rows for _ in range(5)]  # noqa: E731
    groups = [f"plant {image // 5}" for image in range(100)]
    once = ap_difference(truths, old, new, 2, draws=400, seed=1)
    together = ap_difference(times(truths), times(old), times(new), 2, draws=400, seed=1, groups=groups)
    apart = ap_difference(times(truths), times(old), times(new), 2, draws=400, seed=1)
    assert together.upper - together.lower == pytest.approx(once.upper - once.lower, rel=0.15)
    assert apart.upper - apart.lower < 0.6 * (once.upper - once.lower)
    (lower, upper), narrow = (
        ap_intervals(times(truths), times(old), 2, draws=400, seed=1, groups=g).overall for g in (groups, None)
    )
    assert narrow[1] - narrow[0] < 0.6 * (upper - lower)


def test_groups_of_which_fewer_than_five_show_an_object_are_no_ground_and_their_images_are_drawn():
    truths, old = random_scenes(4, images=20, classes=2)
    new = worse(old, 0)
    alone = ap_difference(truths, old, new, 2, draws=50, seed=1)
    assert ap_difference(truths, old, new, 2, draws=50, seed=1, groups=["a", "b"] * 10) == alone


def test_of_few_images_equal_models_are_called_worse_in_about_one_of_twenty_cases():
    random = np.random.default_rng(0)
    truths = [boxes_to_truth([(0, 0, 40, 40)], [0])] * 6

    def found():  # an object of an image as wide as chance has it
        return [
            boxes_to_detections([(0, 0, width, 40)], [0], [random.random()]) for width in random.integers(16, 41, 6)
        ]

    cases = [ap_difference(truths, found(), found(), 1, draws=200, seed=case) for case in range(300)]
    outside = sum((case.upper < 0) + (case.lower > 0) for case in cases)
    assert 0.02 < outside / 600 < 0.08


def test_names_do_not_matter_when_all_classes_are_one():
    truths, found = random_scenes(0, images=10, classes=3)
    renamed = [any_class(each) for each in found]
    difference = ap_difference(truths, found, renamed, 3, draws=20, seed=0, class_agnostic=True)
    assert difference.observed == 0.0 and difference.upper == 0.0
    assert ap_difference(truths, found, renamed, 3, draws=20, seed=0).observed < 0


def test_without_any_object_there_is_no_difference():
    truths, found = [boxes_to_truth([], [])] * 3, [boxes_to_detections([(1, 1, 5, 5)], [0], [0.5])] * 3
    assert ap_difference(truths, found, found, 1, draws=5, seed=0) is None


def test_draws_without_objects_are_left_out():
    truths = [boxes_to_truth([(2, 2, 9, 9)], [0]), boxes_to_truth([], [])]
    nothing, all_found = boxes_to_detections([], [], []), boxes_to_detections([(2, 2, 9, 9)], [0], [0.9])
    difference = ap_difference(truths, [nothing, nothing], [all_found, nothing], 1, draws=40, seed=0)
    assert difference.mean == difference.lower == difference.upper == pytest.approx(1.0)


def test_detections_of_other_images_are_refused():
    truths, found = random_scenes(0, images=3, classes=1)
    with pytest.raises(ValueError, match="wanted detections of 3 images, got those of 2"):
        ap_difference(truths, found, found[:2], 1, seed=0)


def test_150_images_of_40_objects_take_seconds():
    truths, old = random_scenes(0, images=150, classes=5, objects=80)
    started = time.process_time()
    ap_difference(truths, old, worse(old, 0), 5, draws=1000, seed=0)
    assert time.process_time() - started < 30


def test_an_interval_holds_the_ap_and_widens_with_fewer_images():
    truths, found = random_scenes(2, images=60, classes=3)
    found = worse(found, 0)
    many = ap_intervals(truths, found, 3, seed=1, draws=200)
    few = ap_intervals(truths[:8], found[:8], 3, seed=1, draws=200)
    measured = evaluate(truths, found, NAMES)
    assert many.overall[0] < measured.mask_ap < many.overall[1]
    assert few.overall[1] - few.overall[0] > many.overall[1] - many.overall[0]
    for name, (lower, upper) in zip(NAMES, many.per_class, strict=True):
        assert lower < measured.per_class[name]["mask_ap"] < upper


def test_no_interval_is_told_of_very_few_images_or_of_a_class_without_truth():
    truths, found = random_scenes(2, images=10, classes=2)
    assert ap_intervals(truths[:4], found[:4], 2, seed=1).overall is None
    empty = boxes_to_truth([], []), boxes_to_detections([], [], [])
    sparse = ap_intervals([*truths[:2], *[empty[0]] * 40], [*found[:2], *[empty[1]] * 40], 2, seed=1, draws=20)
    assert (sparse.overall, sparse.per_class) == (None, (None, None)), "40 images without objects add none"
    lone = ap_intervals(truths, found, 3, seed=1, draws=20)
    assert lone.overall is not None and lone.per_class[2] is None
