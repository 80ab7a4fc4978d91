from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.errors import BadSetting
from backend.simulation.options import PLAYED, SimulationOptions
from backend.simulation.playing import Seed
from backend.simulation.run import run
from backend.simulation.world import build_world, split
from model.formats import coco
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from tests.backend.simulation.discs import COLOURS
from tests.textures import shot_again, textured


def photographed(options: SimulationOptions, tmp_path: Path, pairs: int = 0) -> SimulationOptions:
    """The same with textured photos of one disc each, by which near copies can be told; settings of a real project.

    Of the first photos so many pairs are near copies, as in a burst.
    """
    (tmp_path / "photos").mkdir()
    records = []
    for index in range(12):
        is_copy = index % 2 == 1 and index < 2 * pairs
        photo, disc = textured(index - is_copy, (200, 260)), np.zeros((200, 260), np.uint8)
        photo = shot_again(photo) if is_copy else photo
        cv2.circle(disc, (130, 100), 60, 1, -1)
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), photo)
        label = list(COLOURS)[index % 2]
        records.append(Record(f"{index}.png", (200, 260), (Outline(label, mask_to_polygons(disc > 0)),)))
    coco.write(records, tmp_path / "photos" / "annotations.json", tuple(COLOURS))
    return replace(
        options,
        images=tmp_path / "photos",
        annotations=tmp_path / "photos" / "annotations.json",
        judge="linear",
        redundant=2,
        seeds=1,
        strategies=("random", "random_copies_last", "uncertainty"),
        config=None,
    )


def copies_chosen(options: SimulationOptions, strategy: str, twins: dict[str, list[int]]) -> int:
    """How many of the images that a strategy chose are near copies of those before them."""
    steps = options.out / "runs" / "seed_1" / strategy / "steps.jsonl"
    places = json.loads(steps.read_text().splitlines()[-1])["chosen"]
    assert len(places) == 7
    return sum(bool(set(twins[str(place)]) & set(places[:at])) for at, place in enumerate(places) if at >= 3)


def test_a_network_learns_from_near_copies_too(options: SimulationOptions) -> None:
    run(replace(options, redundant=2, seeds=1, loops=1, initial=12, strategies=("random",)))
    [steps] = (options.out / "runs").glob("seed_1/random/steps.jsonl")
    assert any(place >= 16 for place in json.loads(steps.read_text().splitlines()[-1])["chosen"])


def test_near_copies_come_last_but_for_plain_chance(options: SimulationOptions, tmp_path: Path) -> None:
    near = photographed(options, tmp_path)
    summary = json.loads(run(near).read_text())
    assert list(summary["uncertainty"]["gain"]) == ["random", "random_copies_last"]
    [found] = (near.out / "runs").glob("near_copies_*.json")
    twins, written = json.loads(found.read_text()), found.stat().st_mtime_ns
    assert twins["0"] == [12, 13] and len(twins) == 36, "of twelve photos each with its two copies"
    copies = {name: copies_chosen(near, name, twins) for name in summary}
    assert copies["random_copies_last"] == copies["uncertainty"] == 0 < copies["random"]
    run(replace(near, loops=3))
    assert found.stat().st_mtime_ns == written, "looked for once"


def test_no_photo_is_tested_on_that_is_a_near_copy_of_one_to_learn_from(
    options: SimulationOptions, tmp_path: Path
) -> None:
    near = replace(photographed(options, tmp_path, pairs=3), redundant=0)
    world, kept = build_world(near), replace(near, near_copies="keep")
    seeds = [Seed(near, world, number) for number in range(1, 6)]
    for seed in seeds:
        learned, tested = set(seed.judged.learn), set(seed.judged.test)
        assert not any({i, i + 1} & learned and {i, i + 1} & tested for i in (0, 2, 4))
        assert seed.judged.learn == seed.split.learn
        assert Seed(kept, world, seed.number).judged == seed.split
    assert sum(len(seed.split.test) - len(seed.judged.test) for seed in seeds) > 2


def test_where_all_photos_to_test_on_are_near_copies_nothing_is_played(
    options: SimulationOptions, tmp_path: Path
) -> None:
    bursts = replace(photographed(options, tmp_path, pairs=6), redundant=0, strategies=("random",))
    with pytest.raises(BadSetting, match="all images to test on are near copies of images to learn from; keep one of"):
        run(bursts)
    assert not list(bursts.out.rglob("steps.jsonl"))
    assert run(replace(bursts, near_copies="keep", out=tmp_path / "kept")).is_file()


def test_near_copies_stay_where_they_are_if_asked_for(options: SimulationOptions, tmp_path: Path) -> None:
    near = replace(photographed(options, tmp_path), near_copies="keep", strategies=("random", "uncertainty"))
    run(near)
    assert not list((near.out / "runs").glob("near_copies_*.json"))
    with pytest.raises(BadSetting, match=r"other settings \(near_copies\); choose another --out"):
        run(replace(near, near_copies="last"))
    settings = json.loads((near.out / "settings.json").read_text())
    del settings["near_copies"]
    (near.out / "settings.json").write_text(json.dumps(settings))
    assert run(near).is_file(), "begun by a release that moved none"


def test_near_copies_are_moved_as_the_settings_of_a_project_say(options: SimulationOptions, tmp_path: Path) -> None:
    assert not options.moves_near_copies, "the fake engine learns from all"
    assert replace(options, config=None).moves_near_copies
    (tmp_path / "keep.yaml").write_text("near_copies: keep\n")
    keeping = replace(options, config=tmp_path / "keep.yaml")
    assert not keeping.moves_near_copies and replace(keeping, near_copies="last").moves_near_copies
    moved = [name for name in PLAYED if replace(keeping, near_copies="last").puts_copies_last(name)]
    assert moved == [name for name in PLAYED if name != "random"]
    assert [name for name in PLAYED if keeping.puts_copies_last(name)] == ["random_copies_last"]


def test_near_copies_are_of_photos_to_learn_from_alone(options: SimulationOptions) -> None:
    copying = replace(options, redundant=3, imbalance="plum=0.5")
    world = build_world(copying)
    found = split(world, copying, seed=1)
    learned, tested = ({world.records[i].image.partition("#")[0] for i in part} for part in (found.learn, found.test))
    assert not learned & tested and len(found.learn) == 4 * len(learned) and len(found.test) == len(tested)
    labels = [outline.label for name in learned for outline in world.by_name[name].outlines]
    assert labels.count("plum") / len(labels) >= 0.5
