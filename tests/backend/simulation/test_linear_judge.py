from __future__ import annotations

import numpy as np
import pytest

from backend.simulation.linear_judge import LinearJudge, class_accuracy
from backend.simulation.object_features import ObjectFeatures
from backend.simulation.world import Split

RNG = np.random.default_rng(0)
LABELS = np.array([0, 0, 1, 1] * 10)
"""Two objects of one class in each image, the classes in turn."""


def judge() -> LinearJudge:
    """Two well divided clouds; the objects of image 18 lie between them, image 19 shows nothing."""
    objects = RNG.normal(0, 0.3, (40, 6)).astype(np.float32)
    objects[:, 0] += np.where(LABELS == 0, -2, 2)
    objects[36:38, 0] = 0
    starts = np.array([*range(0, 39, 2), 38])
    whole = np.arange(20, dtype=np.float32)[:, None].repeat(3, 1)
    features = ObjectFeatures(objects[:38], LABELS[:38].astype(np.int64), starts, whole, 2)
    return LinearJudge(features, Split(tuple(range(10)), tuple(range(10, 18))), "mean")


def test_it_learns_to_tell_apart_what_it_has_seen_of_both_classes() -> None:
    learner = judge()
    assert learner.learn((0, 2, 4), 0) == 0.5, "one class only: the other is always wrong"
    assert learner.learn((0, 1, 2, 3), 1) == 1
    assert learner.verdict.class_accuracy == 1 and learner.verdict.mask_ap is None


def test_what_lies_between_the_classes_is_the_least_certain() -> None:
    learner = judge()
    learner.learn((0, 1, 2, 3), 0)
    found = {candidate.key: candidate for candidate in learner.candidates(range(10, 20))}
    assert min(range(10, 19), key=lambda key: found[key].certainty) == 18
    assert np.isnan(found[19].certainty) and found[19].class_counts == (0, 0)


def test_a_candidate_shows_as_many_objects_as_were_annotated_of_the_classes_it_seems_to_show() -> None:
    learner = judge()
    learner.learn((0, 1, 2, 3), 0)
    [blue, red] = learner.candidates((10, 11))
    assert sum(blue.class_counts) == pytest.approx(2)
    assert blue.class_counts[0] > 1.8 and red.class_counts[1] > 1.8
    assert blue.embedding == (10, 10, 10)


def test_recalled_images_give_what_learning_gave() -> None:
    one, other = judge(), judge()
    other.features = one.features
    one.learn((0, 1, 5), 2)
    other.recall((0, 1, 5), 2)
    assert (one.probabilities == other.probabilities).all()


def test_images_without_objects_teach_nothing_and_break_nothing() -> None:
    learner = judge()
    assert learner.learn((19,), 0) == 0.5
    assert [candidate.certainty for candidate in learner.candidates((5,))] == [0]


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10)
    assert class_accuracy(probabilities, np.array([0] * 9 + [1]), np.arange(10)) == 0.5


def test_coverage_is_given_the_objects_with_their_doubt_and_what_is_annotated() -> None:
    learner = judge()
    learner.learn((0, 1, 2, 3), 0)
    [between, clear] = learner.candidates((18, 10))
    assert between.objects is not None and clear.objects is not None
    assert between.objects.features.shape == (2, 6)
    assert (between.objects.uncertainties > clear.objects.uncertainties).all()
    known = learner.known((0, 1, 2, 3))
    assert (known.features == learner.features.objects[:8]).all() and 0 <= known.trust <= 1


def test_uncertainty_proves_itself_on_images_that_were_not_learned_from() -> None:
    """Of the ten annotated images two are tried; the clouds are told apart without an error, which tells nothing."""
    assert judge().known(tuple(range(10))).trust == 0.5
