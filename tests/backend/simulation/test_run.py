from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from backend.cli import main
from backend.errors import BadSetting, ProcessFailed
from backend.simulation.options import SimulationOptions
from backend.simulation.run import run
from backend.simulation.splits import stratified_split
from backend.system.folder_lock import alone_in
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from tests.backend.simulation.discs import spoilt


def curves(options: SimulationOptions) -> list[dict[str, str]]:
    with (options.out / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_leaves_curves_a_picture_and_a_summary(options: SimulationOptions) -> None:
    summary = json.loads(run(options).read_text())
    rows = curves(options)
    assert len(rows) == 3 * 2 * 3
    assert [int(row["images"]) for row in rows[:3]] == [3, 5, 7]
    assert all(float(row["annotation_seconds"]) >= 79 * int(row["objects"]) for row in rows)
    assert cv2.imread(str(options.out / "curves.png")) is not None
    assert list(summary) == list(options.strategies)
    for found in summary.values():
        assert found["share_of_random"]["low"] <= found["share_of_random"]["mean"] <= found["share_of_random"]["high"]
        assert len(found["share_of_random"]["per_seed"]) == found["seeds"] == 2
        assert 0 <= found["mask_ap"]["mean"] <= 1


def test_every_strategy_begins_with_the_same_images_and_the_same_model(options: SimulationOptions) -> None:
    run(options)
    for seed in ("1", "2"):
        first = [row for row in curves(options) if row["seed"] == seed and row["loop"] == "0"]
        assert len({(row["objects"], row["mask_ap"]) for row in first}) == 1 and len(first) == 3


def test_a_stopped_simulation_goes_on_with_the_same_end(options: SimulationOptions, tmp_path: Path) -> None:
    def without_seconds(chosen: SimulationOptions) -> list[dict[str, str]]:
        run(chosen)
        return [{key: value for key, value in row.items() if key != "seconds"} for row in curves(chosen)]

    at_once = without_seconds(replace(options, out=tmp_path / "at once"))
    without_seconds(replace(options, loops=1, seeds=1))
    steps = options.out / "runs" / "seed_1" / "random" / "steps.jsonl"
    before = steps.read_text()
    assert without_seconds(options) == at_once
    assert steps.read_text().startswith(before), "what was done is not done again"


def test_a_step_that_was_cut_off_while_it_was_written_is_played_again(
    options: SimulationOptions, tmp_path: Path
) -> None:
    def values(chosen: SimulationOptions) -> list[tuple[str, str]]:
        run(chosen)
        return [(row["loop"], row["mask_ap"]) for row in curves(chosen)]

    few = replace(options, seeds=1, strategies=("uncertainty",))
    at_once = values(replace(few, out=tmp_path / "at once"))
    assert values(replace(few, loops=1)) == at_once[:2]
    steps = few.out / "runs" / "seed_1" / "uncertainty" / "steps.jsonl"
    with steps.open("a") as file:
        file.write('{"strategy": "uncertainty", "seed": 1, "lo')
    assert values(few) == at_once and len(steps.read_text().splitlines()) == 3
    steps.write_text(steps.read_text().replace('"loop": 1', '"lo'))
    assert values(replace(few, loops=3))[:3] == at_once, "a line in the midst costs the run"


@pytest.mark.parametrize("judge", ["network", "linear"])
def test_a_pool_that_is_mostly_empty_images_is_played_to_its_end(
    options: SimulationOptions, tmp_path: Path, judge: str
) -> None:
    sparse = spoilt(options, tmp_path)
    content = json.loads(sparse.annotations.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] % 3 == 1]
    sparse.annotations.write_text(json.dumps(content))
    few = replace(sparse, judge=judge, seeds=1, initial=1, pool_size=1, strategies=("random", "uncertainty"))
    run(few)
    assert len(curves(few)) == 6


def test_without_test_images_there_is_nothing_to_compare(options: SimulationOptions) -> None:
    with pytest.raises(BadSetting, match="none of the 0 images to test on, of 16, shows an object; choose a larger"):
        run(replace(options, test_share=0.01))
    assert not options.out.exists()


def test_annotations_that_were_changed_are_another_simulation(options: SimulationOptions, tmp_path: Path) -> None:
    same = spoilt(options, tmp_path)
    few = replace(same, seeds=1, loops=1, strategies=("random",))
    run(few)
    content = json.loads(few.annotations.read_text())
    content["annotations"][0]["category_id"] = 3 - content["annotations"][0]["category_id"]
    few.annotations.write_text(json.dumps(content))
    with pytest.raises(BadSetting, match=r"other settings \(truth\); choose another --out"):
        run(few)


def test_more_loops_give_what_they_give_at_once_where_a_strategy_changes_over_them(
    options: SimulationOptions, tmp_path: Path
) -> None:
    few = replace(options, seeds=1, pool_size=1, strategies=("stratified",))
    run(few)
    run(replace(few, loops=5))
    run(replace(few, loops=5, out=tmp_path / "at once"))
    [gone_on, at_once] = (curves(replace(few, out=out)) for out in (few.out, tmp_path / "at once"))
    assert [(row["objects"], row["mask_ap"]) for row in gone_on] == [(r["objects"], r["mask_ap"]) for r in at_once]


def test_seeds_side_by_side_come_to_the_same(options: SimulationOptions, tmp_path: Path) -> None:
    def rows_of(chosen: SimulationOptions) -> list[dict[str, str]]:
        run(chosen)
        return [{key: value for key, value in row.items() if key != "seconds"} for row in curves(chosen)]

    few = replace(options, loops=1, strategies=("random", "class_turns"))
    assert rows_of(replace(few, jobs=2, out=tmp_path / "side by side")) == rows_of(few)


def test_a_gain_is_told_over_each_baseline_that_was_played(options: SimulationOptions) -> None:
    summary = json.loads(run(replace(options, strategies=("random", "class_turns", "uncertainty"))).read_text())
    assert {name: list(found["gain"]) for name, found in summary.items()} == {
        "random": ["class_turns"],
        "class_turns": ["random"],
        "uncertainty": ["random", "class_turns"],
    }
    for gain in summary["uncertainty"]["gain"]["random"].values():
        assert gain["low"] <= gain["mean"] <= gain["high"] and len(gain["per_seed"]) == 2


def test_the_linear_judge_tells_its_accuracy_and_goes_on_where_it_stopped(
    options: SimulationOptions, tmp_path: Path
) -> None:
    linear = replace(options, judge="linear", seeds=1, strategies=("random", "uncertainty"))
    run(replace(linear, loops=1))
    [features] = (options.out / "runs").glob("object_features_*.npz")
    written = features.stat().st_mtime_ns
    gone_on = json.loads(run(linear).read_text())
    assert features.stat().st_mtime_ns == written, "computed once"
    (tmp_path / "at once" / "runs").mkdir(parents=True)
    shutil.copy(features, tmp_path / "at once" / "runs")
    at_once = json.loads(run(replace(linear, out=tmp_path / "at once")).read_text())
    assert gone_on == at_once
    assert 0.5 <= at_once["uncertainty"]["class_accuracy"]["mean"] <= 1 and "mask_ap" not in at_once["uncertainty"]
    assert at_once["uncertainty"]["gain"]["random"]["images"]["per_seed"]


def test_fresh_seeds_are_played_beside_those_of_before(options: SimulationOptions) -> None:
    few = replace(options, loops=1, strategies=("random",))
    run(few)
    run(replace(few, first_seed=3))
    assert {row["seed"] for row in curves(few)} == {"3", "4"}
    assert sorted(path.name for path in (few.out / "runs").glob("seed_*")) == [f"seed_{n}" for n in (1, 2, 3, 4)]


def test_without_two_classes_there_is_nothing_for_the_linear_judge(options: SimulationOptions, tmp_path: Path) -> None:
    alike = spoilt(options, tmp_path)
    content = json.loads(alike.annotations.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = 1
    alike.annotations.write_text(json.dumps(content))
    with pytest.raises(BadSetting, match="needs objects of two classes, got one; choose --judge network"):
        run(replace(alike, judge="linear"))


def test_options_that_do_not_fit_are_named(options: SimulationOptions) -> None:
    for changes, message in (
        (
            {"strategies": ("random", "uncertainty", "random")},
            "strategies must each be named once, got random more often",
        ),
        ({"judge": "best"}, "judge must be one of network, linear, got best"),
        ({"imbalance": "pear=0.5"}, r"names the class 'pear', annotations.json has tomato, plum"),
        ({"imbalance": "plum=2"}, "imbalance must be CLASS=SHARE"),
        ({"redundant": -1}, "redundant must be a number of near copies from 0, got -1"),
        ({"near_copies": "first"}, "near_copies must be last or keep, got first"),
        ({"first_seed": 0}, "first_seed must be a number from 1, got 0"),
    ):
        with pytest.raises(BadSetting, match=message):
            replace(options, **changes)  # type: ignore[arg-type]


def test_a_folder_of_another_simulation_is_not_mixed_with_this_one(options: SimulationOptions) -> None:
    run(replace(options, seeds=1, loops=1, strategies=("random",)))
    with pytest.raises(BadSetting, match=r"other settings \(config\); choose another --out"):
        run(replace(options, pool_size=1))


def test_a_folder_into_which_another_simulation_plays_is_left_alone(options: SimulationOptions) -> None:
    options.out.mkdir()
    with alone_in(options.out, ""), pytest.raises(ProcessFailed, match="wait for it, or choose another --out"):
        run(options)
    assert [path.name for path in options.out.iterdir()] == ["lock"]
    run(options)


def test_more_loops_than_images_are_refused(options: SimulationOptions) -> None:
    with pytest.raises(BadSetting, match="9 loops need 21 images, there are 12; choose fewer --loops"):
        run(replace(options, loops=9))
    assert not options.out.exists(), "nothing is kept that would refuse the mended command"


def test_an_unknown_strategy_is_one_line(data: Path, tmp_path: Path) -> None:
    arguments = ["simulate", "--images", data, "--annotations", data / "annotations.json", "--out", tmp_path]
    result = CliRunner().invoke(main, [str(a) for a in [*arguments, "--strategies", "random,best"]])
    assert result.exit_code == 1
    assert "maskal: strategies must be some of uncertainty, certainty" in result.output and "got best" in result.output


def test_each_class_is_in_both_parts_of_the_split() -> None:
    square = mask_to_polygons(np.ones((5, 5), bool))
    names = ["rare"] * 6 + ["common"] * 40 + [""] * 10
    records = [Record(str(i), (9, 9), (Outline(n, square),) if n else ()) for i, n in enumerate(names)]
    learn, test = stratified_split(records, 0.3, seed=4)
    assert sorted(learn + test) == list(range(56))
    assert [sum(names[i] == name for i in test) for name in ("rare", "common", "")] == [2, 12, 3]
    assert stratified_split(records, 0.3, seed=5)[1] != test
