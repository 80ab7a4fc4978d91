from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from backend.errors import BadSetting
from backend.project.config import ProjectConfig, check_config, read_config
from backend.project.maskal_names import MOVED
from model.engines.base import EngineConfig, InputRange, Keeping
from model.records import Outline, Polygon, Record


def square(side: float, label: str = "leaf") -> Record:
    """An image of 256 x 256 px with one square."""
    ring = np.array([[0, 0], [side, 0], [side, side], [0, side]], float)
    return Record("a.png", (256, 256), (Outline(label, (Polygon(ring),)),))


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing set\n")
    assert read_config(path) == ProjectConfig()


def test_what_is_set_is_kept_and_used(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "train_iterations_base: 2500\ntrain_iterations_step_size: 2500\nlearning_rate: 0.01\npool_size: 200\n"
    )
    config = read_config(path)
    training = config.training_config("nano", [square(90)] * 501, warm=True, seed=3)
    assert (training.iterations, training.learning_rate, training.seed, config.pool_size) == (5000, 0.01, 3, 200)


def test_unset_values_follow_network_and_device() -> None:
    config = ProjectConfig()
    assert config.engine_config("cpu").network == "lite"
    assert config.engine_config("cuda").network == "maskrcnn_resnet50_fpn_v2"
    first = config.training_config("nano", [square(90)] * 30, warm=False, seed=0)
    later = config.training_config("nano", [square(90)] * 30, warm=True, seed=0)
    assert later.iterations < first.iterations
    assert first.eval_period == math.ceil(first.iterations / 8), "eight looks at the validation images"
    on_gpu = config.training_config("nano", [square(90)], warm=False, seed=0, device="cuda:1")
    assert (first.num_workers, on_gpu.num_workers) == (1, 4)


def test_what_is_set_wins_over_what_would_be_chosen() -> None:
    wanted = {"num_workers": 0, "eval_period": 7, "repeat_factor_smallest_class": 0.0, "warmup_iterations": 0}
    training = check_config(wanted, "my.yaml").training_config("nano", [square(90)] * 30, warm=False, seed=0)
    assert {name: getattr(training, name) for name in wanted} == wanted


def test_images_without_detections_come_last_where_scoring_is_exact_unless_the_file_says_otherwise() -> None:
    def place(**settings: str) -> str:
        return check_config(settings, "my.yaml").ranking_config().without_detections

    assert (place(), place(scoring="exact")) == ("median", "last")
    assert place(scoring="exact", without_detections="first") == "first"


def test_coverage_needs_a_network_that_has_seen_images_before() -> None:
    def strategy(**settings: str) -> str:
        return check_config(settings, "my.yaml").ranking_config().strategy

    assert strategy(strategy="coverage") == "coverage"
    assert strategy(strategy="coverage", pretrained_weights="none") == "uncertainty"
    assert strategy(strategy="coverage", engine="fake") == "uncertainty"
    assert strategy(strategy="diverse", pretrained_weights="none") == "diverse"


@pytest.mark.parametrize("engine", ["torchvision", "fake"])
def test_first_images_and_near_copies_are_looked_at_unless_the_fake_engine_learns_or_the_file_says_so(
    engine: str,
) -> None:
    def looks(**settings: str) -> tuple[bool, bool]:
        config = check_config({"engine": engine, **settings}, "my.yaml")
        return config.chooses_first_images, config.moves_near_copies

    assert looks() == ((engine != "fake"),) * 2
    assert looks(first_images="random", near_copies="keep") == (False, False)
    assert looks(first_images="coverage", near_copies="last") == (True, True)


def test_what_is_kept_of_a_backbone_is_the_networks_unless_the_file_says_otherwise() -> None:
    def kept(keeping: Keeping, **settings: float) -> tuple[int | None, float]:
        config = check_config(settings, "my.yaml")
        training = config.training_config("lite", [square(90)], warm=True, seed=0, keeping=keeping)
        return training.freeze_at, training.backbone_rate

    assert kept(Keeping(3, 0.1)) == (3, 0.1) and kept(Keeping()) == (0, 1.0)
    assert kept(Keeping(3, 0.1), freeze_at=0) == (0, 0.1)
    assert kept(Keeping(3, 0.1), backbone_rate=0.0) == (3, 0.0)


def test_a_backbone_of_timms_trains_as_all_of_them_do() -> None:
    training = ProjectConfig().training_config("timm/resnet18", [square(90)] * 30, warm=False, seed=0)
    assert (training.optimizer, training.learning_rate, training.iterations) == ("adamw", 2e-4, 1000)


def test_a_long_training_warms_up_for_no_more_than_100_steps_and_a_short_one_is_not_measured_all_the_time() -> None:
    long, short = (
        ProjectConfig(train_iterations_base=steps).training_config("lite", [square(90)], warm=False, seed=0)
        for steps in (5000, 40)
    )
    assert (long.warmup_iterations, short.warmup_iterations) == (100, 4)
    assert (long.eval_period, short.eval_period) == (625, 20)


def test_no_image_is_repeated_where_the_file_says_so() -> None:
    records = [square(90)] * 9 + [square(90, label="stem")]

    def factor(**settings: str) -> float:
        config = check_config(settings, "my.yaml")
        return config.training_config("lite", records, warm=False, seed=0).repeat_factor_smallest_class

    assert factor() > 1 and factor(train_sampler="TrainingSampler") == 0


def test_a_small_network_trains_longer_to_tell_classes_apart() -> None:
    config, one, two = ProjectConfig(), [square(90)] * 480, [square(90), square(90, label="stem")] * 240

    def length(network: str, records: list[Record], warm: bool = False) -> int:
        return config.training_config(network, records, warm=warm, seed=0).iterations

    assert length("nano", two) == 2 * length("nano", one)
    assert length("nano", two, warm=True) == length("nano", one, warm=True)
    assert length("maskrcnn_resnet50_fpn", two) == length("maskrcnn_resnet50_fpn", one)


def test_the_preset_gives_the_published_numbers_and_the_file_wins_over_it() -> None:
    config = check_config({"preset": "maskal", "pool_size": 50}, "my.yaml")
    training = config.training_config("maskrcnn_resnet50_fpn", [square(90)] * 501, warm=False, seed=0)
    assert (training.iterations, training.learning_rate, training.optimizer) == (5000, 0.005, "sgd")
    assert (training.batch_size, training.warmup_iterations, training.patience) == (1, 500, 0)
    assert (config.pool_size, config.mcd_iterations, config.scoring) == (50, 20, "exact")


def test_the_learning_rate_follows_the_batch() -> None:
    """In proportion with SGD, by the square root with Adam."""
    for network, factor in (("maskrcnn_resnet50_fpn", 4), ("nano", 2)):
        small, large = (
            ProjectConfig(train_batch_size=size).training_config(network, [square(90)], warm=False, seed=0)
            for size in (4, 16)
        )
        assert large.learning_rate == pytest.approx(factor * small.learning_rate)


def test_the_input_grows_with_small_objects_unless_the_file_says_no() -> None:
    known = InputRange(shortest=192, longest=256, largest=512, visible=8, anchor=16)
    large = ProjectConfig().adapted(EngineConfig(), known, [square(90)])
    small = ProjectConfig().adapted(EngineConfig(), known, [square(4)])
    assert large.image_size == (192, 256)
    assert small.image_size is not None and small.image_size > (192, 256)
    crowded = replace(square(4), outlines=square(4).outlines * 60)
    assert ProjectConfig().adapted(EngineConfig(), known, [crowded]).detections_per_image == 200
    assert ProjectConfig(adapt_input=False).adapted(EngineConfig(), known, [crowded]) == EngineConfig()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pool_sise": 5}, "unknown setting 'pool_sise'; known are .*pool_size"),
        ({"initial_datasize": "many"}, r"initial_datasize: Input should be a valid integer.*got 'many'"),
        ({"initial_datasize": 0}, "initial_datasize: .*greater than or equal to 1, got 0"),
        ({"preset": "fastest"}, "preset: Input should be 'adaptive' or 'maskal', got 'fastest'"),
        ({"strategy": "best"}, "strategy: .*'uncertainty', 'certainty', .* or 'coverage', got 'best'"),
        ({"freeze_at": -1}, "freeze_at: .*greater than or equal to 0, got -1"),
        ({"backbone_rate": 1.5}, "backbone_rate: .*less than or equal to 1, got 1.5"),
        ({"device": "gpu"}, "device: .*cpu.cuda.*, got 'gpu'"),
        ({"learning_rate": float("inf")}, "learning_rate: Input should be a finite number, got inf"),
        ({"step_ratios": [0.5, 80]}, r"step_ratios\.1: .*less than or equal to 1, got 80"),
        ({"step_ratios": [float("nan")]}, r"step_ratios\.0: .*, got nan"),
        ([1, 2], "should hold `name: value` lines, got a list"),
    ],
)
def test_a_bad_setting_names_key_value_and_what_was_wanted(content: object, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        check_config(content, "my.yaml")


MASKALS_OWN = """
weightsroot: "./weights"
resultsroot: "./results"
dataroot: "./datasets"
use_initial_train_dir: False
initial_train_dir: "./datasets/initial_train"
traindir: "./datasets/train"
valdir: "./datasets/val"
testdir: "./datasets/test"
network_config: COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml
pretrained_weights: COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x.yaml
cuda_visible_devices: '0'
classes: ['healthy', 'damaged', 'matured', 'cateye', 'headrot']
transfer_learning_on_previous_models: True
learning_rate: 0.01
warmup_iterations: 500
train_iterations_base: 2500
train_iterations_step_size: 2500
step_image_number: 500
eval_period: 500
checkpoint_period: -1
weight_decay: 0.0001
learning_policy: 'steps_with_decay'
step_ratios: [0.5, 0.8]
gamma: 0.1
train_batch_size: 1
num_workers: 2
train_sampler: "TrainingSampler"
minority_classes: ['damaged', 'matured', 'cateye', 'headrot']
repeat_factor_smallest_class: 1.0
confidence_threshold: 0.5
nms_threshold: 0.2
experiment_name: 'exp1'
strategies: 'uncertainty'
mode: 'mean'
initial_datasize: 100
pool_size: 200
equal_pool_size: True
loops: 5
dropout_probability: 0.25
mcd_iterations: 10
iou_thres: 0.5
auto_annotate: True
export_format: labelme
supervisely_meta_json: "./datasets/meta.json"
"""
"""The settings of a file of MaskAL's."""


def test_maskals_own_file_says_where_each_name_went(tmp_path: Path) -> None:
    path = tmp_path / "maskAL.yaml"
    path.write_text(MASKALS_OWN)
    with pytest.raises(BadSetting) as caught:
        read_config(path)
    line = str(caught.value)
    assert line.startswith("maskAL.yaml: MaskAL's settings that have another place here are to be taken out (")
    for place in (
        "traindir, valdir, testdir: the parts are chosen by hash",
        "use_initial_train_dir, initial_train_dir: maskal import",
        "cuda_visible_devices: device",
        "classes: the labelling config",
        "transfer_learning_on_previous_models: warm_start",
        "strategies: strategy",
        "auto_annotate, export_format, supervisely_meta_json: maskal auto-annotate",
    ):
        assert place in line
    assert len(line) < 900 and "\n" not in line and "unknown" not in line


def test_images_before_the_next_round_are_one_number_or_one_for_each_round() -> None:
    config = check_config({"pool_size": [10, 20, 40]}, "leaf.yaml")
    assert [config.pool_size_after(rounds) for rounds in range(6)] == [10, 10, 20, 40, 40, 40]
    assert [check_config({"pool_size": 7}, "leaf.yaml").pool_size_after(rounds) for rounds in (0, 1, 5)] == [7, 7, 7]


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "20", [], [10, 0], [10, "20"], [[10]], None])
def test_what_is_no_number_of_images_is_refused(value: object) -> None:
    wanted = "leaf.yaml: pool_size: Input should be a whole number from 1 or a list of such numbers, got "
    with pytest.raises(BadSetting, match=re.escape(f"{wanted}{value!r}") + "$"):
        check_config({"pool_size": value}, "leaf.yaml")


def test_maskals_file_without_them_is_taken() -> None:
    content = {name: value for name, value in yaml.safe_load(MASKALS_OWN).items() if name not in MOVED}
    config = check_config(content, "maskAL.yaml")
    assert config.checkpoint_period is None and config.eval_period == 500
    assert config.train_sampler == "TrainingSampler" and config.pool_size == 200


@pytest.mark.parametrize("period", ["checkpoint_period", "eval_period"])
def test_minus_one_is_the_default_of_a_period(period: str) -> None:
    assert check_config({period: -1}, "a.yaml") == ProjectConfig()
    assert check_config({period: -1, "preset": "maskal"}, "a.yaml") == check_config({"preset": "maskal"}, "a.yaml")
    with pytest.raises(BadSetting, match=f"{period}: .*greater than or equal to 1, got -2"):
        check_config({period: -2}, "a.yaml")


def test_known_names_are_told_once_however_many_are_unknown() -> None:
    with pytest.raises(BadSetting) as caught:
        check_config({f"name_{i}": i for i in range(30)} | {"classes": ["a"] * 500, "mode": ["mean"] * 500}, "a.yaml")
    line = str(caught.value)
    assert line.count("known are") == line.count("a.yaml") == 1 and len(line) < 2500
    assert "mode: Input should be 'mean', 'min' or 'max'" in line and "unknown settings 'name_0', 'name_1'" in line


def test_a_file_of_another_encoding_is_named_or_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = "minority_classes: [Läsion]\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_config(path).minority_classes == ["Läsion"]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadSetting, match=r"^config\.yaml cannot be read as YAML \(.*\); save it as UTF-8$"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("5e-4", 0.0005), ("1.5e-3", 0.0015), (".1e-1", 0.01), ("2e+0", 2)],
)
def test_a_number_with_an_exponent_is_one_however_it_is_written(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"learning_rate: {text}\nminority_classes: [e3, 1e, leaf 1e3]\n")
    config = read_config(path)
    assert (config.learning_rate, config.minority_classes) == (value, ["e3", "1e", "leaf 1e3"])


def test_a_name_that_is_set_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "leaf.yaml"
    path.write_text("pool_size: 20\nmode: min\npool_size: 30\n")
    with pytest.raises(BadSetting, match=r"leaf\.yaml cannot be read as YAML: .*'pool_size' is set twice.*line 3"):
        read_config(path)


def test_lists_of_the_same_lists_are_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "leaf.yaml"
    path.write_text("minority_classes: &a [leaf, stem]\nstrategy: [*a, *a]\n")
    with pytest.raises(BadSetting, match=r"leaf\.yaml cannot be read as YAML: .*\*a is a list; write it out.*line 2"):
        read_config(path)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(BadSetting, match=r"bad\.yaml cannot be read as YAML"):
        read_config(path)
