from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from backend.demo.run import DemoOptions, _config, _folder, demo, has_version, project_note
from backend.errors import BadSetting, ProcessFailed
from backend.project.folder import connect_folder
from backend.rounds.folder import start_round
from backend.settings import Settings
from model.errors import BadRecord
from model.registry import VersionFields
from model.stored_weights import add_version

FIELDS = VersionFields(1, ("leaf",), "fake", {}, {}, None, "", True, "")


def test_a_folder_is_kept_to_one_demo(tmp_path: Path) -> None:
    options = DemoOptions(folder=tmp_path)
    with (
        _folder(options),
        pytest.raises(ProcessFailed, match=f"another demo runs in {tmp_path}; .* --folder"),
        _folder(options),
    ):
        pass
    with _folder(options):  # the first one has ended
        pass


def test_each_set_of_images_has_a_project_of_its_own(tmp_path: Path) -> None:
    coco = tmp_path / "coco.json"
    sets = [DemoOptions(), DemoOptions(images=tmp_path / "a", annotations=coco)]
    sets += [
        DemoOptions(images=tmp_path / "b", annotations=coco),
        DemoOptions(images=tmp_path / "a", annotations=tmp_path / "2"),
    ]
    assert len({project_note(tmp_path, options) for options in sets}) == 4
    again = DemoOptions(images=tmp_path / "b" / ".." / "a", annotations=coco, limit=9)
    assert project_note(tmp_path, again) == project_note(tmp_path, sets[1])


def test_wrong_images_and_settings_are_told_before_anything_is_started(tmp_path: Path) -> None:
    coco, config = tmp_path / "coco.json", tmp_path / "wrong.yaml"
    coco.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "annotations": [], "categories": []}'
    )
    config.write_text("networkconfig: nano")
    folder = tmp_path / "demo"
    with pytest.raises(BadRecord, match=r"image a\.png is not in"):
        demo(Settings(tmp_path), DemoOptions(images=tmp_path, annotations=coco, folder=folder))
    with pytest.raises(BadSetting, match="networkconfig"):
        demo(Settings(tmp_path), DemoOptions(config=config, folder=folder))
    assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("settings", "wanted"), [("", (30, 5)), ("pool_size: 7", (30, 7)), ("preset: maskal\npool_size: 7", (100, 7))]
)
def test_the_demos_own_numbers_stand_where_settings_and_preset_say_none(
    tmp_path: Path, settings: str, wanted: tuple[int, int]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(settings)
    config = _config(DemoOptions(config=path), initial=30, pool=5)
    assert (config.initial_datasize, config.pool_size) == wanted


@pytest.mark.parametrize("is_headless", [False, True], ids=["shown", "headless"])
def test_too_few_images_are_told_before_anything_is_started(tmp_path: Path, is_headless: bool) -> None:
    coco, folder = tmp_path / "coco.json", tmp_path / "demo"
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    coco.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}], "annotations": [], '
        '"categories": [{"id": 1, "name": "leaf"}]}'
    )
    options = DemoOptions(headless=is_headless, images=tmp_path, annotations=coco, folder=folder)
    wanted = "6 images for 2 rounds" if is_headless else "4 images"
    with pytest.raises(BadSetting, match=f"needs at least {wanted}, got 1"):
        demo(Settings(tmp_path, label_studio_executable="/bin/false"), options)
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_one_port_for_both_is_told_before_anything_is_started(tmp_path: Path) -> None:
    options = DemoOptions(folder=tmp_path / "demo", port=18080, backend_port=18080, limit=4)
    with pytest.raises(BadSetting, match="Label Studio and the backend cannot both have port 18080"):
        demo(Settings(tmp_path, label_studio_executable="/bin/false"), options)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["lock"]


def test_a_check_that_is_stopped_has_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    for name, code in (("_check_itself", 1), ("_show", 0)):
        monkeypatch.setattr(f"backend.demo.run.{name}", stop)
        assert demo(Settings(tmp_path), DemoOptions(headless=name == "_check_itself", folder=tmp_path / "demo")) == code


def test_a_round_under_way_is_waited_for_only_before_the_first_version(tmp_path: Path) -> None:
    home = connect_folder(tmp_path, "1.1")
    first = start_round(home, 0)
    assert not has_version(home)
    home.registry.set_current(add_version(home.registry, FIELDS, {"w": torch.zeros(1)}).name)
    assert not has_version(home), "it is not published yet"
    first.state.state = "published"
    first.save()
    assert has_version(home)
    start_round(home, 1)
    assert has_version(home)
