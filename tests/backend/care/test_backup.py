from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from redis import Redis

from backend.care import backup
from backend.care.backup import back_up
from backend.care.restore import restore
from backend.errors import BadSetting
from backend.project.config import ProjectConfig
from backend.project.credentials import load_credentials
from backend.project.folder import ProjectFolder, connect_folder, find_folder
from backend.rounds.folder import all_rounds, start_round
from backend.settings import Settings
from backend.workers.clock import EVERYWHERE
from backend.workers.jobs import tidy
from model.errors import NewerFormat
from model.files import temporary_sibling
from model.registry import VersionFields
from model.stored_weights import add_version, load_weights
from tests.backend.shown_project import UID, ShownProject


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    """A project with six versions, whose DATA_DIR has secrets."""
    load_credentials(Settings(data_dir=tmp_path / "old"))
    return ShownProject(tmp_path / "old").make_versions()


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "new")


@pytest.fixture
def saved(folder: ProjectFolder, tmp_path: Path) -> Path:
    back_up(folder, tmp_path / "leaf.tar")
    return tmp_path / "leaf.tar"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_restored_project_has_every_file_of_the_old_one(folder: ProjectFolder, saved: Path, fresh: Settings) -> None:
    assert "serving maskal-r6" in restore(fresh, saved)
    restored = find_folder(fresh.data_dir, 3)
    assert contents(restored.path) == contents(folder.path)
    assert torch.equal(load_weights(restored.registry, "maskal-r6")[0]["w"], torch.zeros(1))
    assert not list(folder.path.glob(".tmp-*")) and not list(fresh.data_dir.rglob(".tmp-*"))


def test_backup_is_for_its_owner_and_says_what_it_does_not_hold(folder: ProjectFolder, tmp_path: Path) -> None:
    told = back_up(folder, tmp_path / "leaf.tar")
    assert stat.S_IMODE((tmp_path / "leaf.tar").stat().st_mode) == 0o600
    assert "Label Studio's database" in told and "pg_dump" in told
    with tarfile.open(tmp_path / "leaf.tar") as archive:
        assert {(one.uid, one.gid, one.uname, one.gname) for one in archive} == {(0, 0, "", "")}, "whoever that is"


def test_files_that_the_settings_name_outside_of_the_project_are_named(folder: ProjectFolder, tmp_path: Path) -> None:
    assert "Not in it" not in back_up(folder, tmp_path / "leaf.tar")
    weights = tmp_path / "own.safetensors"
    weights.touch()
    folder.store_config(ProjectConfig(pretrained_weights=str(weights), network_config="nano"))
    told = back_up(folder, tmp_path / "leaf.tar")
    assert f"Not in it: {weights}, which the settings name; keep it too. " in told


def test_secrets_travel_only_where_somebody_asks(folder: ProjectFolder, tmp_path: Path, fresh: Settings) -> None:
    secrets = (folder.data_dir / "secrets.json").read_bytes()
    back_up(folder, tmp_path / "without.tar")
    assert json.loads(secrets)["basic_password"].encode() not in (tmp_path / "without.tar").read_bytes()
    back_up(folder, tmp_path / "with.tar", with_secrets=True)
    assert "with its secrets" in restore(fresh, tmp_path / "with.tar")
    assert (fresh.data_dir / "secrets.json").read_bytes() == secrets
    assert stat.S_IMODE((fresh.data_dir / "secrets.json").stat().st_mode) == 0o600


def test_secrets_that_are_here_stay(folder: ProjectFolder, tmp_path: Path, fresh: Settings) -> None:
    own = load_credentials(fresh)
    back_up(folder, tmp_path / "with.tar", with_secrets=True)
    assert "without secrets" in restore(fresh, tmp_path / "with.tar")
    assert load_credentials(fresh) == own


def test_backup_during_a_round_holds_what_it_serves(folder: ProjectFolder, tmp_path: Path, fresh: Settings) -> None:
    done, registry = threading.Event(), folder.registry

    def make_versions() -> None:
        """As rounds do, only faster: a version comes, is served, and the one before it goes."""
        number = 7
        while not done.is_set():
            fields = VersionFields(number, ("leaf",), "fake", {}, {}, None, "", True, "")
            version = add_version(registry, fields, {"w": torch.zeros(1)})
            before = registry.current()
            registry.set_current(version.name)
            registry.remove(str(before))
            number += 1
            done.wait(0.1)

    worker = threading.Thread(target=make_versions)
    worker.start()
    try:
        for number in range(3):
            back_up(folder, tmp_path / f"{number}.tar")
    finally:
        done.set()
        worker.join()
    for number in range(3):
        settings = Settings(data_dir=tmp_path / f"restored-{number}")
        restore(settings, tmp_path / f"{number}.tar")
        restored = find_folder(settings.data_dir, 3).registry
        assert load_weights(restored, str(restored.current()))


def test_step_that_a_round_takes_meanwhile_has_all_gathered_anew(
    folder: ProjectFolder, tmp_path: Path, fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, link_all, calls = start_round(folder, 6), backup._link_all, []

    def link_and_go_on(source: Path, target: Path) -> None:
        link_all(source, target)
        calls.append(target)
        if len(calls) == 1:
            current.weights.write_bytes(b"weights")
            current.state.state = "trained"
            current.save()

    monkeypatch.setattr(backup, "_link_all", link_and_go_on)
    back_up(folder, tmp_path / "leaf.tar")
    restore(fresh, tmp_path / "leaf.tar")
    restored = all_rounds(find_folder(fresh.data_dir, 3))[-1]
    assert len(calls) == 2 and restored.state.state == "trained" and restored.weights.read_bytes() == b"weights"


def test_link_in_a_project_is_named(folder: ProjectFolder, tmp_path: Path) -> None:
    (folder.path / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(BadSetting, match="elsewhere is a link; a backup holds files only"):
        back_up(folder, tmp_path / "leaf.tar")
    assert not (tmp_path / "leaf.tar").exists() and not list(folder.path.glob(".tmp-*"))


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def sparse(name: str, size: int) -> tarfile.TarInfo:
    """A file of no byte that unpacks to zeros."""
    made = tarfile.TarInfo(name)
    made.pax_headers = {"GNU.sparse.map": f"{size},0", "GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1"}
    return made


HOSTILE = {
    "a symbolic link": member("project/current", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("project/current", tarfile.LNKTYPE, "project/config.yaml"),
    "a way out": member("project/../../escaped"),
    "an absolute path": member("/tmp/escaped"),
    "another folder": member("projects/4.17/current"),
    "a folder of no name": member("project//x"),
    "a device": member("project/current", tarfile.CHRTYPE),
    "a file twice": member("project/history.jsonl"),
    "a sparse file": sparse("project/large", 10**8),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_what_no_backup_holds_is_refused_and_nothing_is_written(
    hostile: tarfile.TarInfo, saved: Path, fresh: Settings
) -> None:
    with tarfile.open(saved, "a") as archive:
        archive.addfile(hostile, io.BytesIO())
    with pytest.raises(BadSetting, match="nothing was restored"):
        restore(fresh, saved)
    assert not fresh.data_dir.exists()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_between_files(path: Path) -> None:
    with tarfile.open(path) as archive:
        end = archive.getmembers()[-1].offset
    path.write_bytes(path.read_bytes()[:end])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_off, "damaged|cut off"),
        (cut_between_files, "cut off: it holds"),
        (lambda path: path.write_bytes(b"no archive" * 200), "is no backup"),
        (lambda path: path.write_bytes(b""), "is no backup"),
    ],
)
def test_damaged_file_restores_nothing(
    damage: Callable[[Path], object], told: str, saved: Path, fresh: Settings
) -> None:
    damage(saved)
    with pytest.raises(BadSetting, match=told):
        restore(fresh, saved)
    assert not list(fresh.data_dir.glob("projects/*"))


def test_backup_of_a_newer_release_is_refused(
    folder: ProjectFolder, tmp_path: Path, fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "FORMAT", 2)
    back_up(folder, tmp_path / "leaf.tar")
    with pytest.raises(NewerFormat, match="has format 2, this release knows up to 1; upgrade"):
        restore(fresh, tmp_path / "leaf.tar")


def test_folder_in_use_stays_as_it_is(folder: ProjectFolder, saved: Path) -> None:
    before = contents(folder.path)
    with pytest.raises(BadSetting, match=r"is in use; run `maskal disconnect --project 3 --delete`"):
        restore(Settings(data_dir=folder.data_dir), saved)
    assert contents(folder.path) == before


def test_project_of_another_database_is_refused(saved: Path, fresh: Settings) -> None:
    connect_folder(fresh.data_dir, "3.1800000000")
    with pytest.raises(BadSetting, match=rf"project 3 is 3.1800000000 here and {UID} in the backup"):
        restore(fresh, saved)
    assert [p.name for p in (fresh.data_dir / "projects").iterdir()] == ["3.1800000000"]


def test_a_project_without_a_file_yet_is_backed_up_and_restored(tmp_path: Path) -> None:
    folder = connect_folder(tmp_path / "data", "7.1")
    assert back_up(folder, tmp_path / "b.tar").startswith("project 7 (no version yet): 0 files")
    restore(Settings(tmp_path / "other"), tmp_path / "b.tar")
    assert find_folder(tmp_path / "other", 7).uid == "7.1"


def test_what_a_killed_restore_left_is_tidied_away(
    redis: Redis, redis_url: str, fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = temporary_sibling(fresh.data_dir / "projects" / UID)
    (left / "versions").mkdir(parents=True)
    monkeypatch.setenv("DATA_DIR", str(fresh.data_dir))
    monkeypatch.setenv("REDIS_URL", redis_url)
    tidy(EVERYWHERE)
    assert left.is_dir(), "a restore may be at it"
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    tidy(EVERYWHERE)
    assert not left.exists()


def test_a_folder_that_a_disconnected_project_left_is_not_said_to_be_in_use(folder: ProjectFolder, saved: Path) -> None:
    folder.disconnect()
    with pytest.raises(
        BadSetting, match="is kept from before it was disconnected; delete that folder, or move it away"
    ):
        restore(Settings(data_dir=folder.data_dir), saved)
