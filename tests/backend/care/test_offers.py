from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pytest

from backend.care.offers import FEW, TIMES, annotated_objects, like_offers, rare_classes, rare_in_words
from backend.project.folder import connect_folder
from backend.rounds.reading import read_snapshot_of
from backend.rounds.snapshots import split_of
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.round_places import region_of

UID = "1.1"


@pytest.mark.parametrize(
    ("objects", "rare"),
    [
        ({}, ()),
        ({"leaf": 3}, ()),
        ({"leaf": 300, "spot": 40}, ()),
        ({"leaf": 30, "spot": 12}, ()),
        ({"leaf": TIMES * FEW, "spot": FEW}, ("spot",)),
        ({"leaf": TIMES * FEW - 1, "spot": FEW}, ()),
        ({"leaf": 10_000, "spot": FEW + 1}, ()),
        ({"leaf": 10, "spot": 1}, ("spot",)),
        ({"spot": 4, "leaf": 500, "rust": 2, "never": 0}, ("rust", "spot")),
    ],
)
def test_a_class_is_rare_with_few_objects_where_another_has_many(objects: dict[str, int], rare: tuple) -> None:
    assert rare_classes(objects) == rare


def test_status_offers_the_command_for_each_rare_class() -> None:
    first, second = rare_in_words(7, {"leaf": 90, "leaf spot's": 3, "rust": 1})
    assert first.startswith("rust is rare: 1 object is annotated, 90 of leaf; ")
    assert second.startswith("leaf spot's is rare: 3 objects are annotated, 90 of leaf; ")
    command = second.split("`")[1]
    assert shlex.split(command) == ["maskal", "like", "--project", "7", "--label", "leaf spot's"]
    assert not list(rare_in_words(7, {"leaf": 90, "rust": 60}))


def test_the_page_offers_a_task_and_a_class_rare_or_not() -> None:
    def commands(objects: dict[str, int], task: int | None = 5) -> list[str]:
        return [offer.command.removeprefix("maskal like --project 7 ") for offer in like_offers(7, objects, task)]

    assert commands({"leaf": 90, "spot": 2, "rust": 1}) == ["--task 5", "--label rust", "--label spot"]
    assert commands({"leaf": 90, "spot": 60, "never": 0}) == ["--task 5", "--label spot"]
    assert commands({}, None) == ["--task NUMBER"]


def test_objects_are_counted_where_they_are_learned_from(tmp_path: Path) -> None:
    server = FakeLabelStudio(UID, 20, 20)
    first = next(task for task in range(1, 21) if split_of({}, task, UID) == "train")
    part = {**region_of(first), "id": "part", "parentID": str(first)}
    server.annotate(first, part, {**region_of(first + 1), "id": "other"})
    place = place_of(connect_folder(tmp_path, UID), server)
    splits = {task.id: split_of(task.data, task.id, UID) for task in server.tasks(1)}
    expected = Counter("leaf" if task % 2 else "spot" for task, split in splits.items() if split == "train")
    expected["spot" if first % 2 else "leaf"] += 1
    assert annotated_objects(*read_snapshot_of(place), place.labels) == expected != Counter()
