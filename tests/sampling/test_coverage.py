from __future__ import annotations

import numpy as np
import pytest

from sampling import coverage
from sampling.coverage import PRIOR, Known, ObjectsOfImage, Parts, cover, proved

KINDS = np.array([[6.0, 0, 0], [0, 6.0, 0], [0, 0, 6.0]])
NOTHING = Known(np.zeros((0, 3)), 0.0)
ALONE = Parts(class_turns=False)
COUNT = 10


def image(*kinds: int, uncertainty: float = 0.5, classes: tuple[float, float] = (0.5, 0.5)) -> ObjectsOfImage:
    """One with an object of each of these kinds, all of them equally uncertain."""
    noise = np.random.default_rng(len(kinds) + kinds[0]).normal(0, 0.01, (len(kinds), 3))
    return ObjectsOfImage(
        KINDS[list(kinds)] + noise, np.tile(classes, (len(kinds), 1)), np.full(len(kinds), uncertainty)
    )


def order(images: list[ObjectsOfImage], known: Known = NOTHING, parts: Parts = ALONE, count: int = COUNT) -> list[int]:
    return cover(images, known, parts, count, np.zeros(len(images)))


def test_each_kind_of_object_is_seen_before_one_is_seen_twice() -> None:
    found = order([image(0), image(0), image(0), image(1), image(1), image(2)])
    assert {i // 3 if i < 3 else i for i in found[:3]} <= {0, 3, 4, 5} and 5 in found[:3]
    assert sorted(found) == list(range(6))


def test_what_is_annotated_is_covered() -> None:
    known = Known(KINDS[:1], 0.0)
    found = order([image(0), image(0), image(0), image(1), image(1), image(2)], known)
    assert found[0] in (3, 4) and found[1] == 5
    assert order([image(0), image(1), image(2)], Known(KINDS[:2], 0.0))[0] == 2, "each that is annotated covers its own"


def test_an_image_with_several_new_kinds_comes_first() -> None:
    assert order([image(0), image(1, 2), image(1), image(2)], Known(KINDS[:1], 0.0))[0] == 1


def test_a_crowd_of_one_kind_counts_no_more_than_an_image_with_one_object() -> None:
    images = [image(0), image(1), image(1), image(*[2] * 30)]
    assert order(images)[0] in (1, 2)


def test_uncertainty_counts_as_far_as_it_has_proved_itself() -> None:
    images = [*[image(0, uncertainty=0.1)] * 3, *[image(1, uncertainty=0.9)] * 2]
    assert order(images, Known(np.zeros((0, 3)), 0.0))[0] < 3, "coverage alone: the larger group"
    assert order(images, Known(np.zeros((0, 3)), 1.0))[0] >= 3
    assert order(images, Known(np.zeros((0, 3)), 0.0), Parts(1.0, class_turns=False))[0] >= 3, "a setting wins"


def test_what_the_model_is_sure_of_counts_little_and_not_for_nothing() -> None:
    assert 2 in order([*[image(0, uncertainty=0.0)] * 2, image(1, uncertainty=0.0)], Known(np.zeros((0, 3)), 1.0))[:2]


def test_the_classes_take_turns_where_the_model_is_trusted() -> None:
    common, rare = [image(0, classes=(0.95, 0.05))] * 6, [image(1, classes=(0.05, 0.95))]
    scattered = [*common, image(2, classes=(0.9, 0.1)), *rare]
    assert order(scattered, Known(KINDS[:1], 1.0), Parts())[:2] == [6, 7]
    assert order([*common, *rare], Known(np.zeros((0, 3)), 1.0), Parts())[1] == 6


def test_no_class_has_a_turn_where_the_setting_says_so_or_the_model_is_not_trusted() -> None:
    images = [*[image(0, classes=(0.95, 0.05))] * 6, *[image(2, classes=(0.95, 0.05))] * 4]
    images.append(image(1, classes=(0.05, 0.95)))
    trusted, not_trusted = Known(np.zeros((0, 3)), 1.0), Known(np.zeros((0, 3)), 0.0)
    assert order(images, trusted, Parts())[1] == 10
    assert 6 <= order(images, trusted, Parts(class_turns=False))[1] < 10
    assert 6 <= order(images, not_trusted, Parts())[1] < 10


def test_what_is_not_chosen_one_by_one_follows_by_what_it_would_bring() -> None:
    found = order([image(2), *[image(1)] * 2, *[image(0)] * 3], count=0)
    assert set(found[:3]) == {3, 4, 5} and found[-1] == 0


def test_what_is_annotated_counts_for_those_that_follow_too() -> None:
    found = order([*[image(0)] * 3, *[image(1)] * 2, image(2)], Known(KINDS[:1], 0.0), count=0)
    assert set(found[:2]) == {3, 4} and found[2] == 5


def test_every_class_counts_as_much_for_those_that_follow() -> None:
    """Each of the common class's two kinds brings half of what there is of it, the rare one all of its own."""
    common, rare = [*[image(0, classes=(1, 0))] * 3, *[image(2, classes=(1, 0))] * 3], image(1, classes=(0, 1))
    assert order([*common, rare], Known(np.zeros((0, 3)), 1.0), Parts(), count=0)[0] == 6


def test_noise_lifts_the_image_that_it_is_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    images, noise = [image(2), *[image(1)] * 2, *[image(0)] * 3], np.array([0.0, 0, 5, 0, 0, 0])
    assert order(images)[0] in (3, 4, 5)
    assert cover(images, NOTHING, ALONE, COUNT, noise)[0] == 2
    monkeypatch.setattr(coverage, "SHORTLIST", 5)
    assert cover(images, NOTHING, ALONE, COUNT, noise)[0] == 2, "the shortlist has another order than the images"


def test_beyond_the_shortlist_images_follow_by_what_they_would_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image(2), *[image(1)] * 3, *[image(0)] * 5]
    monkeypatch.setattr(coverage, "SHORTLIST", 3)
    found = order(images)
    assert sorted(found) == list(range(9)) and set(found[:5]) == set(range(4, 9)), "the largest group brings most alone"
    assert found[-1] == 0


def test_references_stand_for_all_objects_where_these_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*[image(0)] * 40, *[image(1)] * 20, *[image(2)] * 10]
    monkeypatch.setattr(coverage, "REFERENCES", 20)
    monkeypatch.setattr(coverage, "AT_ONCE", 7)
    known = Known(np.repeat(KINDS[:1], 30, 0), 0.0)
    first, second = order(images, known)[:2]
    assert 40 <= first < 60 <= second


def test_no_image_is_no_order() -> None:
    assert order([]) == []


def test_uncertainty_that_tells_errors_has_proved_itself_the_more_images_say_so() -> None:
    few, many = np.linspace(0, 1, 5), np.linspace(0, 1, 200)
    assert PRIOR < proved(few, few**2) < proved(many, many**2) <= 1
    assert proved(many, many**2) > 0.95
    assert proved(many, 1 - many) == 0
    assert proved(many, np.tile([0.0, 1.0], 100)) < 0.1, "unrelated"


def test_what_was_not_tried_is_trusted_half() -> None:
    two, three, nine = (np.linspace(0, 1, count) for count in (2, 3, 9))
    assert proved(nine, np.zeros(9)) == proved(np.zeros(9), nine) == PRIOR, "all of them alike"
    assert proved(two, two) == PRIOR < proved(three, three)


@pytest.mark.parametrize("parts", [{"uncertainty": 1.1}, {"uncertainty": -0.1}, {"noise": -1.0}])
def test_parts_out_of_range_are_refused(parts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        Parts(**parts)  # type: ignore[arg-type]
    assert Parts(uncertainty=0.0).uncertainty == 0, "coverage alone"
