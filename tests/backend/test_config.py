from __future__ import annotations

from pathlib import Path

import pytest

from backend.config import ProjectConfig, check_config, read_config
from backend.errors import BadSetting


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
    training = config.training_config("nano", 501, warm=True, seed=3)
    assert (training.iterations, training.learning_rate, training.seed, config.pool_size) == (5000, 0.01, 3, 200)


def test_unset_values_follow_network_and_device() -> None:
    config = ProjectConfig()
    assert config.engine_config("cpu").network == "nano"
    assert config.engine_config("cuda").network == "maskrcnn_resnet50_fpn_v2"
    first = config.training_config("nano", 30, warm=False, seed=0)
    later = config.training_config("nano", 30, warm=True, seed=0)
    assert later.iterations < first.iterations


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pool_sise": 5}, "unknown setting 'pool_sise'; known are .*pool_size"),
        ({"pool_size": "many"}, r"pool_size: Input should be a valid integer.*got 'many'"),
        ({"pool_size": 0}, "pool_size: .*greater than or equal to 1, got 0"),
        ({"strategy": "best"}, "strategy: .*'uncertainty', 'certainty', .* or 'stratified', got 'best'"),
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
