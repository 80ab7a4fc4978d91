"""What is worth doing besides labelling what comes: commands that find more of what is rare."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from backend.label_studio.annotations import labels_of_objects
from backend.label_studio.labels import LabelConfig
from backend.rounds.reading import Chosen
from backend.rounds.snapshots import Snapshot

FEW = 20
"""Annotated objects of a rare class, at most."""

TIMES = 10
"""So many times as many objects, at least, the most frequent class has."""


@dataclass(frozen=True)
class Offer:
    """A command, and what it is for."""

    reason: str
    command: str


def rare_classes(objects: Mapping[str, int]) -> tuple[str, ...]:
    """Classes with few of the annotated objects, the rarest first; without any there is nothing to look for more by."""
    most = max(objects.values(), default=0)
    rare = [name for name, count in objects.items() if 0 < count <= FEW and TIMES * count <= most]
    return tuple(sorted(rare, key=lambda name: objects[name]))


def annotated_objects(now: Snapshot, chosen: Chosen, labels: LabelConfig) -> Counter[str]:
    """Objects of each class in the annotations that are learned from."""
    learned = (chosen[entry.task][1] for entry in now.entries if entry.split == "train")
    return Counter(label for annotation in learned for label in labels_of_objects(annotation, labels))


def rare_in_words(project_id: int, objects: Mapping[str, int]) -> Iterator[str]:
    """What status says of each rare class."""
    for offer in _for_rare_classes(project_id, objects):
        yield f"{offer.reason}; find images that may show it: `{offer.command}`"


def like_offers(project_id: int, objects: Mapping[str, int], task: int | None) -> tuple[Offer, ...]:
    """The ways to ask for more of the same: by a task, by each rare class, or where none is rare by the rarest."""
    by_task = Offer("Like one task, by its number", f"maskal like --project {project_id} --task {task or 'NUMBER'}")
    by_class = tuple(_for_rare_classes(project_id, objects))
    known = [name for name, count in objects.items() if count]
    if not by_class and known:
        rarest = min(known, key=lambda name: objects[name])
        by_class = (Offer("Like what is annotated of a class", _by_label(project_id, rarest)),)
    return (by_task, *by_class)


def _for_rare_classes(project_id: int, objects: Mapping[str, int]) -> Iterator[Offer]:
    most = max(objects, key=lambda name: objects[name], default="")
    for name in rare_classes(objects):
        count = objects[name]
        what = "object is annotated" if count == 1 else "objects are annotated"
        reason = f"{name} is rare: {count} {what}, {objects[most]} of {most}"
        yield Offer(reason, _by_label(project_id, name))


def _by_label(project_id: int, label: str) -> str:
    return f"maskal like --project {project_id} --label {shlex.quote(label)}"
