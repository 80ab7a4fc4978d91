"""How good the annotated images are, as a linear classifier says that learns the classes of their objects.

It sees each object through the frozen backbone, in the box that was annotated: boxes of the truth stand in for the
proposals of a network. So it says what choosing does for telling classes apart, nothing of finding and outlining, and
is done in seconds where the network takes hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from backend.simulation.judge import Verdict
from backend.simulation.object_features import ObjectFeatures
from backend.simulation.world import Split
from sampling.coverage import Known, ObjectsOfImage, proved
from sampling.ranking import Candidate
from sampling.uncertainty import MODES

WEIGHT_DECAY = 3e-3
ITERATIONS = 60

VALIDATION_SHARE = 0.15
"""Of the annotated images, as a project has it: what uncertainty is tried on."""


class LinearJudge:
    """Learns by fitting a softmax regression to the objects of the images; its value is the class accuracy."""

    def __init__(self, features: ObjectFeatures, split: Split, mode: str) -> None:
        self.features, self.split, self.mode = features, split, mode
        self.probabilities = np.zeros((len(features.labels), features.num_classes), np.float32)
        self.verdict = Verdict()

    def learn(self, images: Sequence[int], loop: int) -> float:
        """Fit to the objects of these images and return the class accuracy on the test images."""
        self.recall(images, loop)
        accuracy = class_accuracy(self.probabilities, self.features.labels, self._objects(self.split.test))
        self.verdict = Verdict(class_accuracy=accuracy)
        return accuracy

    def recall(self, images: Sequence[int], loop: int) -> None:
        """Fit anew: that takes less time than to keep the weights."""
        self.probabilities = fitted_probabilities(self.features, self._objects(images))

    def forget(self, loop: int) -> None:
        """There is nothing that was kept."""

    def candidates(self, images: Sequence[int]) -> Iterator[Candidate]:
        """The images; an object's certainty is the margin between its two likeliest classes."""
        for index in images:
            rows = self.features.of_image(index)
            found = self.probabilities[rows]  # (objects, c)
            counts, embedding = tuple(found.sum(0).tolist()), tuple(self.features.whole[index].tolist())
            margins = _margins(found)
            certainty = float(MODES[self.mode](margins)) if len(margins) else float("nan")
            objects = ObjectsOfImage(self.features.objects[rows], found, 1 - margins)
            yield Candidate(index, certainty, False, counts, embedding, objects)

    def known(self, images: Sequence[int]) -> Known:
        """What was annotated in the images, and how well uncertainty told errors on some of them, as yet unseen."""
        shuffled = np.random.default_rng(len(images)).permutation(sorted(images)).tolist()
        split = math.ceil(VALIDATION_SHARE * len(shuffled))
        held_out = [self.features.of_image(i) for i in shuffled[:split] if len(self._objects([i]))]
        found = fitted_probabilities(self.features, self._objects(shuffled[split:]))
        uncertainties = np.array([1 - _margins(found[rows]).mean() for rows in held_out])
        errors = np.array([(found[rows].argmax(1) != self.features.labels[rows]).mean() for rows in held_out])
        return Known(self.features.objects[self._objects(images)], proved(uncertainties, errors))

    def _objects(self, images: Sequence[int]) -> np.ndarray:
        everything = np.arange(len(self.features.labels))
        return np.concatenate([everything[:0], *(everything[self.features.of_image(i)] for i in images)])


def _margins(probabilities: np.ndarray) -> np.ndarray:
    """How far ahead the likeliest class is of the next one, (n, c) -> (n,)."""
    likeliest = np.sort(probabilities, 1)[:, -2:]
    return np.asarray(likeliest[:, 1] - likeliest[:, 0])


def fitted_probabilities(features: ObjectFeatures, rows: np.ndarray) -> np.ndarray:
    """Class probabilities (m, c) of all objects after fitting to those of the rows; even ones if there are none."""
    x, y = torch.from_numpy(features.objects), torch.from_numpy(features.labels)
    w = torch.zeros(x.shape[1], features.num_classes, requires_grad=True)
    b = torch.zeros(features.num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=ITERATIONS)
    known_x, known_y = x[rows], y[rows]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(known_x @ w + b, known_y) + WEIGHT_DECAY * (w**2).sum()
        loss.backward()
        return loss

    if len(rows):
        optimizer.step(closure)
    with torch.no_grad():
        return np.asarray((x @ w + b).softmax(1).numpy())


def class_accuracy(probabilities: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    """Mean over the classes that the rows show of the share of their objects that is recognised; 0 without any."""
    truth, hit = labels[rows], probabilities[rows].argmax(1) == labels[rows]
    return float(np.mean([hit[truth == label].mean() for label in np.unique(truth)])) if len(rows) else 0.0
