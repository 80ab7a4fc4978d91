from __future__ import annotations

from model.judging.evaluation import Detections, Truth
from model.judging.gate import Contender, Verdict, judge
from tests.model.scenes import boxes_to_detections, boxes_to_truth

CLASSES = ("apple", "pear")
BOX = (10, 10, 40, 40)
ELSEWHERE = (45, 45, 60, 60)


def truths(images: int = 12, label: int = 0) -> list[Truth]:
    """One object in each image."""
    return [boxes_to_truth([BOX], [label])] * images


def finds(box: tuple[int, int, int, int] = BOX, label: int = 0, images: int = 12) -> list[Detections]:
    return [boxes_to_detections([box], [label], [0.9])] * images


def nothing(images: int = 12) -> list[Detections]:
    return [boxes_to_detections([], [], [])] * images


GOOD = Contender(CLASSES, finds())
BAD = Contender(CLASSES, nothing())


def test_the_first_version_is_promoted() -> None:
    verdict = judge(truths(), BAD, {}, 0)
    assert (verdict.is_promoted, verdict.reason, verdict.comparisons) == (True, "first version", ())


def test_under_ten_images_a_version_is_promoted_and_the_reason_says_why() -> None:
    verdict = judge(truths(9), Contender(CLASSES, nothing(9)), {"maskal-r1": Contender(CLASSES, finds(images=9))}, 0)
    assert (verdict.is_promoted, verdict.comparisons) == (True, ())
    assert verdict.reason == "only 9 validation images, 10 are needed to compare"


def test_ten_images_are_enough_to_refuse() -> None:
    new, old = Contender(CLASSES, nothing(10)), Contender(CLASSES, finds(images=10))
    assert not judge(truths(10), new, {"maskal-r1": old}, 0).is_promoted


def test_a_clearly_worse_version_is_refused() -> None:
    verdict = judge(truths(), BAD, {"maskal-r3": GOOD}, 0)
    assert not verdict.is_promoted
    assert verdict.reason == (
        "significantly worse on 12 validation images: mask AP -1.000 (-1.000 to -1.000) against maskal-r3"
    )
    (comparison,) = verdict.comparisons
    assert comparison == {
        "version": "maskal-r3",
        "observed": -1,
        "mean": -1,
        "lower": -1,
        "upper": -1,
        "images": 12,
        "classes": ["apple", "pear"],
    }


def test_an_equal_version_is_promoted() -> None:
    verdict = judge(truths(), GOOD, {"maskal-r3": Contender(CLASSES, finds())}, 0)
    assert verdict.is_promoted
    assert verdict.reason.startswith("not significantly worse on 12 validation images: mask AP +0.000")
    assert verdict.comparisons[0]["upper"] == 0


def test_a_better_version_is_promoted() -> None:
    verdict = judge(truths(), GOOD, {"maskal-r3": BAD}, 0)
    assert (verdict.is_promoted, verdict.comparisons[0]["mean"]) == (True, 1)


def test_one_lost_object_in_twelve_is_not_significant() -> None:
    slightly_worse = Contender(CLASSES, [*finds(images=11), *nothing(1)])
    verdict = judge(truths(), slightly_worse, {"maskal-r3": GOOD}, 0)
    assert verdict.is_promoted
    assert verdict.comparisons[0]["observed"] < 0 <= verdict.comparisons[0]["upper"]


def test_a_version_worse_than_one_of_several_is_refused_and_only_that_one_is_named() -> None:
    verdict = judge(truths(), BAD, {"maskal-r1": BAD, "maskal-r2": GOOD}, 0)
    assert not verdict.is_promoted
    assert "maskal-r2" in verdict.reason and "maskal-r1" not in verdict.reason
    assert [comparison["version"] for comparison in verdict.comparisons] == ["maskal-r1", "maskal-r2"]


def test_only_common_classes_count_and_they_are_matched_by_name() -> None:
    old_classes = ("pear", "plum")  # pear is label 1 in the new version and 0 in the old one
    seen = [boxes_to_truth([BOX, ELSEWHERE], [0, 1])] * 12
    new = Contender(CLASSES, finds(ELSEWHERE, label=1))  # every pear, no apple
    old = Contender(old_classes, finds(ELSEWHERE, label=0))
    verdict = judge(seen, new, {"maskal-r1": old}, 0)
    assert verdict.is_promoted
    (comparison,) = verdict.comparisons
    assert (comparison["classes"], comparison["observed"]) == (["pear"], 0)


def test_a_common_class_that_got_worse_is_refused() -> None:
    old = Contender(("pear", "plum"), finds(label=0))
    new = Contender(CLASSES, finds(label=0))  # calls every pear an apple
    verdict = judge(truths(label=1), new, {"maskal-r1": old}, 0)
    assert not verdict.is_promoted
    assert verdict.comparisons[0]["observed"] == -1


def test_without_a_common_class_only_the_outlines_count() -> None:
    old = Contender(("plum", "cherry"), finds(label=1))
    equal = judge(truths(), Contender(CLASSES, finds(label=1)), {"maskal-r1": old}, 0)
    assert (equal.is_promoted, equal.comparisons[0]["classes"]) == (True, [])
    assert equal.comparisons[0]["observed"] == 0
    worse = judge(truths(), Contender(CLASSES, finds(ELSEWHERE)), {"maskal-r1": old}, 0)
    assert not worse.is_promoted


def test_images_without_objects_leave_nothing_to_compare() -> None:
    empty = [boxes_to_truth([], [])] * 12
    verdict = judge(empty, BAD, {"maskal-r1": GOOD}, 0)
    assert (verdict.is_promoted, verdict.comparisons) == (True, ())
    assert verdict.reason == "fewer than 5 of the 12 validation images show an object to compare"


def test_four_images_with_objects_say_nothing_however_many_are_empty() -> None:
    def verdict(shown: int) -> Verdict:
        seen = [*truths(shown), *([boxes_to_truth([], [])] * (40 - shown))]
        old = Contender(CLASSES, [*finds(images=shown), *nothing(40 - shown)])
        slightly_worse = Contender(CLASSES, [*finds((10, 10, 40, 37), images=shown), *nothing(40 - shown)])
        return judge(seen, slightly_worse, {"maskal-r1": old}, 0)

    assert verdict(4).is_promoted, "one of eight equal versions would be worse on all three of three images"
    assert verdict(4).reason == "fewer than 5 of the 40 validation images show an object to compare"
    assert not verdict(5).is_promoted


def test_some_images_without_objects_do_no_harm() -> None:
    mixed = [*truths(6), *([boxes_to_truth([], [])] * 6)]
    found = [*finds(images=6), *nothing(6)]
    verdict = judge(mixed, Contender(CLASSES, nothing()), {"maskal-r1": Contender(CLASSES, found)}, 0)
    assert not verdict.is_promoted


def test_the_same_seed_gives_the_same_verdict() -> None:
    def bounds(seed: int) -> tuple[float, float]:
        half = Contender(CLASSES, [*finds(images=6), *nothing(6)])
        (comparison,) = judge(truths(), half, {"maskal-r1": GOOD}, seed).comparisons
        return comparison["mean"], comparison["lower"]

    assert bounds(1) == bounds(1)
    assert bounds(1) != bounds(2)
