import json
import logging
import multiprocessing
import os
import time

import pytest
import torch

from model.errors import BadCheckpoint, BadVersion, NewerFormat
from model.files import remove_leftovers
from model.registry import RankedTask, Registry, VersionFields
from model.stored_weights import add_version, load_weights


def fields(number, **changes):
    given = {
        "number": number,
        "classes": ("healthy", "matured"),
        "engine": "fake",
        "config": {"network": "nano"},
        "metrics": {"mask_ap": 0.5, "box_ap": None},
        "parent": None if number == 1 else f"maskal-r{number - 1}",
        "data_digest": "abc",
        "promoted": True,
        "reason": "first version",
    }
    return VersionFields(**{**given, **changes})


TENSORS = {"w": torch.arange(4.0)}


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "project")


def row(task):
    return RankedTask(task, 0.5, place=task, score=0.1, split="train", regions=[])


def test_an_empty_registry_has_no_versions(registry):
    assert registry.names() == () and registry.versions() == ()
    assert registry.current() is None
    assert registry.next_number() == 1
    assert not registry.folder.exists()  # looking changes nothing


def test_an_added_version_comes_back(registry):
    added = add_version(registry, fields(1), TENSORS)
    assert added.name == "maskal-r1"
    assert registry.get("maskal-r1") == added
    tensors, metadata = load_weights(registry, "maskal-r1")
    assert torch.equal(tensors["w"], TENSORS["w"])
    assert json.loads(metadata["classes"]) == ["healthy", "matured"]
    assert metadata["engine"] == "fake"


def test_versions_are_sorted_by_number_not_by_text(registry):
    for number in (10, 2, 1):
        add_version(registry, fields(number), TENSORS)
    assert registry.names() == ("maskal-r1", "maskal-r2", "maskal-r10")
    assert [version.number for version in registry.versions()] == [1, 2, 10]
    assert registry.next_number() == 11
    assert registry.next_number(at_least=40) == 41
    assert registry.next_number(at_least=3) == 11


def test_the_best_version_is_a_promoted_one_also_where_some_were_not_measured(registry):
    assert registry.best() is None
    for number, ap, promoted in ((1, None, True), (2, 0.6, True), (3, 0.4, True), (4, 0.9, False)):
        add_version(registry, fields(number, metrics={"mask_ap": ap}, promoted=promoted), TENSORS)
    assert registry.best().name == "maskal-r2"


@pytest.mark.parametrize("lucky", [None, [0.3, 1.0]], ids=["too few images to tell", "few images"])
def test_the_best_version_is_no_lucky_one(registry, lucky):
    for number, ap, interval in ((1, 0.95, lucky), (2, 0.6, [0.5, 0.7]), (3, 0.55, [0.45, 0.65])):
        add_version(registry, fields(number, metrics={"mask_ap": ap, "interval": {"mask_ap": interval}}), TENSORS)
    assert registry.best().name == "maskal-r2"


def test_a_version_is_never_overwritten(registry):
    first = add_version(registry, fields(1), TENSORS)
    with pytest.raises(BadVersion, match="maskal-r1 exists already"):
        add_version(registry, fields(1, reason="again"), {"w": torch.zeros(1)})
    assert registry.get("maskal-r1") == first
    assert os.listdir(registry.folder / "versions") == ["maskal-r1"]


def test_a_failed_add_leaves_nothing(registry):
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_version(registry, fields(1, metrics={"mask_ap": float("nan")}), TENSORS)
    assert os.listdir(registry.folder / "versions") == []
    assert registry.next_number() == 1


def test_a_version_counts_from_one():
    with pytest.raises(ValueError, match="counts from 1, got 0"):
        fields(0)


def test_a_damaged_version_is_left_out_with_a_warning(registry, caplog):
    for number in (1, 2, 3, 4):
        add_version(registry, fields(number), TENSORS)
    versions = registry.folder / "versions"
    (versions / "maskal-r1" / "version.json").write_text("{")
    (versions / "maskal-r2" / "version.json").write_text('{"number": 2}')
    (versions / "maskal-r4").rename(versions / "maskal-r5")
    with caplog.at_level(logging.WARNING):
        assert [version.name for version in registry.versions()] == ["maskal-r3"]
    assert "maskal-r1 is damaged" in caplog.text and "maskal-r2 is damaged" in caplog.text
    assert "maskal-r5 holds the version maskal-r4" in caplog.text
    assert registry.next_number() == 6  # the number of a damaged version is not used again


def test_a_version_of_a_newer_release_is_refused_whole(registry):
    add_version(registry, fields(1), TENSORS)
    add_version(registry, fields(2), TENSORS)
    path = registry.folder / "versions" / "maskal-r2" / "version.json"
    stored = json.loads(path.read_text())
    assert stored["format"] == 1
    path.write_text(json.dumps({"format": 2, "unheard": "of"}))
    for ask in (lambda: registry.get("maskal-r2"), registry.versions, lambda: load_weights(registry, "maskal-r2")):
        with pytest.raises(NewerFormat, match=r"version\.json has format 2, this release knows up to 1: .* upgrade"):
            ask()
    path.write_text(json.dumps({name: value for name, value in stored.items() if name != "format"}))
    assert [version.name for version in registry.versions()] == ["maskal-r1", "maskal-r2"], "no format counts as 1"


@pytest.mark.parametrize("name", ["maskal-r9", "maskal-r0", "../maskal-r1", "MaskAL", "", "maskal-r1\n"])
def test_an_unknown_version_is_refused(registry, name):
    add_version(registry, fields(1), TENSORS)
    for ask in (registry.get, registry.set_current, registry.weights_path, registry.read_ranking):
        with pytest.raises(BadVersion, match=r"is not in .* known versions: maskal-r1|wanted a version name"):
            ask(name)
    assert registry.current() is None


def test_current_is_replaced_and_read_from_its_file_alone(registry):
    add_version(registry, fields(1), TENSORS)
    add_version(registry, fields(2), TENSORS)
    registry.set_current("maskal-r1")
    registry.set_current("maskal-r2")
    assert registry.current() == "maskal-r2"
    (registry.folder / "versions").rename(registry.folder / "away")
    assert registry.current() == "maskal-r2"


def test_a_damaged_current_file_is_named(registry):
    add_version(registry, fields(1), TENSORS)
    (registry.folder / "current").write_text("rubbish")
    with pytest.raises(BadVersion, match="got 'rubbish'"):
        registry.current()


def test_changed_weights_are_noticed(registry):
    add_version(registry, fields(1), TENSORS)
    path = registry.folder / "versions" / "maskal-r1" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="have changed"):
        load_weights(registry, "maskal-r1")


def test_a_ranking_is_written_extended_and_read(registry):
    add_version(registry, fields(1), TENSORS)
    assert registry.read_ranking("maskal-r1") == ()
    registry.append_ranking("maskal-r1", row(1))
    registry.append_ranking("maskal-r1", row(2), row(3))
    assert registry.read_ranking("maskal-r1") == (row(1), row(2), row(3))
    registry.write_ranking("maskal-r1", [row(3)])
    assert registry.read_ranking("maskal-r1") == (row(3),)


def test_old_leftovers_are_removed_and_fresh_ones_kept(registry):
    add_version(registry, fields(1), TENSORS)
    versions = registry.folder / "versions"
    old, fresh = versions / ".tmp-maskal-r2-aa", versions / ".tmp-maskal-r3-bb"
    stray = versions / "maskal-r1" / ".tmp-ranking.jsonl-cc"
    old.mkdir()
    (old / "weights.safetensors").touch()
    fresh.mkdir()
    stray.touch()
    (registry.folder / ".tmp-current-dd").touch()
    torn = registry.folder / "rounds" / "2" / ".tmp-training.safetensors-ee"
    torn.parent.mkdir(parents=True)
    torn.touch()
    yesterday = time.time() - 25 * 3600
    for path in (old, stray, torn, registry.folder / ".tmp-current-dd"):
        os.utime(path, (yesterday, yesterday))
    assert registry.names() == ("maskal-r1",)  # leftovers are no versions
    assert remove_leftovers(registry.folder) == 4
    assert os.listdir(torn.parent) == []
    assert sorted(os.listdir(versions)) == [".tmp-maskal-r3-bb", "maskal-r1"]
    assert registry.get("maskal-r1").number == 1


def _add_until_taken(folder, outcomes):
    registry = Registry(folder)
    for number in range(1, 6):
        try:
            add_version(registry, fields(number), TENSORS)
            outcomes.put(number)
        except BadVersion:
            pass


def test_of_several_writers_one_gets_each_number(registry):
    context = multiprocessing.get_context("fork")
    outcomes = context.SimpleQueue()
    writers = [context.Process(target=_add_until_taken, args=(registry.folder, outcomes)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert all(version.name in registry.names() for version in registry.versions())
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(outcomes.get() for _ in range(5)) == [1, 2, 3, 4, 5]
    assert outcomes.empty()
    assert registry.names() == tuple(f"maskal-r{number}" for number in range(1, 6))
    assert all(load_weights(registry, name) for name in registry.names())
