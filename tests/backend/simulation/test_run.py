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
from PIL import Image

from backend.cli import main
from backend.errors import BadSetting, ProcessFailed
from backend.simulation.options import PLAYED, SimulationOptions
from backend.simulation.playing import Seed
from backend.simulation.run import run
from backend.simulation.splits import stratified_split
from backend.simulation.world import build_world, split
from backend.system.folder_lock import alone_in
from model.errors import BadRecord
from model.formats import coco
from model.geometry import mask_to_polygons
from model.record_images import RecordImages
from model.records import Outline, Record
from tests.textures import shot_again, textured

COLOURS = {"tomato": (215, 48, 39), "plum": (69, 60, 180)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures of one or two discs, every fourth with the rare plum."""
    folder = tmp_path_factory.mktemp("discs")
    records = []
    for index in range(16):
        rng = np.random.default_rng(index)
        picture, outlines = np.full((60, 80, 3), 250, np.uint8), []
        labels = ["plum" if index % 4 == 0 else "tomato"] + ["tomato"] * (index % 2)
        for place, label in enumerate(labels):
            mask = np.zeros((60, 80), np.uint8)
            cv2.circle(mask, (20 + 40 * place, 30), int(rng.integers(8, 15)), 1, -1)
            picture[mask > 0] = np.clip(np.array(COLOURS[label]) + rng.integers(-30, 30, 3), 0, 255)
            outlines.append(Outline(label, mask_to_polygons(mask > 0)))
        cv2.imwrite(str(folder / f"{index}.png"), picture[..., ::-1])
        records.append(Record(f"{index}.png", (60, 80), tuple(outlines)))
    coco.write(records, folder / "annotations.json", tuple(COLOURS))
    config = "engine: fake\nlearning_rate: 0.05\ntrain_iterations_base: 30\nmcd_iterations: 3\n"
    (folder / "config.yaml").write_text(config)
    return folder


@pytest.fixture
def options(data: Path, tmp_path: Path) -> SimulationOptions:
    return SimulationOptions(
        images=data,
        annotations=data / "annotations.json",
        out=tmp_path / "out",
        strategies=("random", "uncertainty", "diverse"),
        seeds=2,
        initial=3,
        pool_size=2,
        loops=2,
        test_share=0.25,
        config=data / "config.yaml",
    )


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


def test_a_network_learns_from_near_copies_too(options: SimulationOptions) -> None:
    run(replace(options, redundant=2, seeds=1, loops=1, initial=12, strategies=("random",)))
    [steps] = (options.out / "runs").glob("seed_1/random/steps.jsonl")
    assert any(place >= 16 for place in json.loads(steps.read_text().splitlines()[-1])["chosen"])


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


def test_fresh_seeds_are_played_beside_those_of_before(options: SimulationOptions) -> None:
    few = replace(options, loops=1, strategies=("random",))
    run(few)
    run(replace(few, first_seed=3))
    assert {row["seed"] for row in curves(few)} == {"3", "4"}
    assert sorted(path.name for path in (few.out / "runs").glob("seed_*")) == [f"seed_{n}" for n in (1, 2, 3, 4)]


def test_near_copies_are_of_photos_to_learn_from_alone(options: SimulationOptions) -> None:
    copying = replace(options, redundant=3, imbalance="plum=0.5")
    world = build_world(copying)
    found = split(world, copying, seed=1)
    learned, tested = ({world.records[i].image.partition("#")[0] for i in part} for part in (found.learn, found.test))
    assert not learned & tested and len(found.learn) == 4 * len(learned) and len(found.test) == len(tested)
    labels = [outline.label for name in learned for outline in world.by_name[name].outlines]
    assert labels.count("plum") / len(labels) >= 0.5


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


def test_a_missing_image_is_named(options: SimulationOptions, tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"image .*\.png is not in"):
        run(replace(options, images=tmp_path))


def spoilt(options: SimulationOptions, tmp_path: Path, **names: bytes | None) -> SimulationOptions:
    """The same images in a folder of their own, some of them with other content, or gone."""
    folder = shutil.copytree(options.images, tmp_path / "spoilt")
    for name, content in names.items():
        path = folder / f"{name.strip('_')}.png"
        path.unlink() if content is None else path.write_bytes(content)
    return replace(options, images=folder, annotations=folder / "annotations.json")


def test_all_bad_images_are_named_before_anything_is_trained(options: SimulationOptions, tmp_path: Path) -> None:
    lying = cv2.imencode(".png", np.zeros((80, 60, 3), np.uint8))[1].tobytes()
    floats = cv2.imencode(".tif", np.zeros((60, 80), np.float32))[1].tobytes()
    wrong = spoilt(options, tmp_path, _3=lying, _5=None, _7=b"", _11=floats, _12=lying, _14=lying)
    with pytest.raises(BadRecord) as caught:
        run(wrong)
    line = str(caught.value)
    assert line.startswith("6 of 16 images cannot be used: ")
    assert "3.png is 60 x 80 px, its annotations are for 80 x 60 (width and height swapped)" in line
    assert f"image 5.png is not in {wrong.images}; correct --images" in line
    assert "7.png cannot be read (it is empty); replace the file" in line
    assert "11.png holds float32 pixels" in line and line.endswith("; and 1 more")
    assert not list(options.out.rglob("*.safetensors")) and not list(options.out.rglob("steps.jsonl"))


@pytest.mark.parametrize("name", ["photos\\3.png", "C:\\photos\\3.png", "gone/3.png"])
def test_a_photo_is_found_without_the_folders_of_another_machine(
    options: SimulationOptions, tmp_path: Path, name: str
) -> None:
    renamed = spoilt(options, tmp_path)
    content = json.loads(renamed.annotations.read_text())
    content["images"][3]["file_name"] = name
    content["images"][3]["width"] = None
    renamed.annotations.write_text(json.dumps(content))
    assert run(replace(renamed, seeds=1, loops=1, strategies=("random",))).is_file()


@pytest.mark.parametrize("name", ["photos\\33.png", "C:\\photos\\33.png", "gone/33.png"])
def test_a_photo_that_is_somewhere_else_is_told_at_once(options: SimulationOptions, tmp_path: Path, name: str) -> None:
    wrong = spoilt(options, tmp_path)
    content = json.loads(wrong.annotations.read_text())
    content["images"][3]["file_name"] = name
    wrong.annotations.write_text(json.dumps(content))
    with pytest.raises(BadRecord, match=r"1 of 16 images cannot be used: .*33\.png"):
        run(wrong)


def test_swapped_sizes_in_the_annotations_are_refused(options: SimulationOptions, tmp_path: Path) -> None:
    wrong = spoilt(options, tmp_path)
    content = json.loads(wrong.annotations.read_text())
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    wrong.annotations.write_text(json.dumps(content))
    with pytest.raises(BadRecord, match=r"0\.png is 80 x 60 px, its annotations are for 60 x 80 .width and height sw"):
        run(wrong)


def test_a_turned_photo_is_learned_as_it_was_annotated(options: SimulationOptions, tmp_path: Path) -> None:
    """OpenCV turned none of these; the size was right by chance only where nothing lay on its side."""
    turned = spoilt(options, tmp_path)
    upright = Image.open(turned.images / "3.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(turned.images / "3.png", exif=exif)
    (record,) = [r for r in coco.read(turned.annotations) if r.image == "3.png"]
    assert (RecordImages(turned.images, 1).load(record) == np.asarray(upright)).all()
    run(replace(turned, seeds=1, loops=1, strategies=("random",)))


def test_an_image_that_was_read_in_part_is_left_out_and_told(
    options: SimulationOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partly = spoilt(options, tmp_path)
    content = json.loads(partly.annotations.read_text())
    content["annotations"][2]["iscrowd"] = 1
    name = content["images"][content["annotations"][2]["image_id"] - 1]["file_name"]
    partly.annotations.write_text(json.dumps(content))
    run(replace(partly, seeds=1, loops=1, strategies=("random",)))
    assert f"1 of 16 images are left out, not all of them can be read: {name}: annotation 3 is a crowd" in caplog.text
    assert json.loads((options.out / "settings.json").read_text())["records"] == 15


def test_images_of_12_bits_in_16_are_told(
    options: SimulationOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dark = cv2.imencode(".png", np.full((60, 80), 4000, np.uint16))[1].tobytes()
    run(replace(spoilt(options, tmp_path, _3=dark), seeds=1, loops=1, strategies=("random",)))
    assert "all images of 16 bits here (1) stay under 4096" in caplog.text


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
