from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.errors import BadSetting
from backend.project.config import ProjectConfig, check_config, read_config
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
    assert ProjectConfig(adapt_input=False).adapted(EngineConfig(), known, [square(4)]) == EngineConfig()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pool_sise": 5}, "unknown setting 'pool_sise'; known are .*pool_size"),
        ({"pool_size": "many"}, r"pool_size: Input should be a valid integer.*got 'many'"),
        ({"pool_size": 0}, "pool_size: .*greater than or equal to 1, got 0"),
        ({"preset": "fastest"}, "preset: Input should be 'adaptive' or 'maskal', got 'fastest'"),
        ({"strategy": "best"}, "strategy: .*'uncertainty', 'certainty', .* or 'stratified', got 'best'"),
        ({"freeze_at": -1}, "freeze_at: .*greater than or equal to 0, got -1"),
        ({"backbone_rate": 1.5}, "backbone_rate: .*less than or equal to 1, got 1.5"),
        ([1, 2], "should hold `name: value` lines, got a list"),
    ],
)
def test_a_bad_setting_names_key_value_and_what_was_wanted(content: object, message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        check_config(content, "my.yaml")


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1, 2")
    with pytest.raises(BadSetting, match=r"bad\.yaml cannot be read as YAML"):
        read_config(path)
