"""`maskal backup`: a project as one file, as it is at one moment, also while a round runs."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from backend.counted import counted
from backend.errors import BadSetting
from backend.project.folder import ProjectFolder
from backend.rounds.folder import all_rounds
from model.files import TEMPORARY_PREFIX, replacing, temporary_sibling

FORMAT = 1
MANIFEST, PROJECT, SECRETS = "maskal-backup.json", "project", "secrets.json"
"""Names in the file: what it is, the folder of the project, and the secrets of DATA_DIR."""

ATTEMPTS = 20
"""How often the files are gathered anew because a round took a step meanwhile; gathering takes a moment."""


def back_up(folder: ProjectFolder, out: Path, *, with_secrets: bool = False) -> str:
    """Write a project's registry, rounds and settings to a file that only its owner can read; says what was done."""
    with _gathered(folder) as gathered, replacing(out, mode=0o600) as path:
        files = list(_files_in(gathered))
        with tarfile.open(path, "w", dereference=True) as archive:
            _add_manifest(archive, folder, len(files))
            for file in files:
                archive.add(file, f"{PROJECT}/{file.relative_to(gathered).as_posix()}", filter=_bare)
            if with_secrets:
                archive.add(folder.data_dir / SECRETS, SECRETS, filter=_bare)
    served, size = folder.registry.current() or "no version yet", f"{out.stat().st_size / 1e6:.0f} MB"
    return (
        f"project {folder.project_id} ({served}): {counted(len(files), 'file')}, {size} in {out}. {_elsewhere(folder)}"
        "Tasks and annotations are in Label Studio's database, which has its own means: pg_dump, or for SQLite a copy "
        "of its data folder"
    )


def _elsewhere(folder: ProjectFolder) -> str:
    """A sentence on the files that the settings name and that lie outside of the project, if there are any."""
    config = folder.config()
    named = [name for name in (config.pretrained_weights, config.network_config) if name and Path(name).is_file()]
    if not named:
        return ""
    them = "it" if len(named) == 1 else "them"
    return f"Not in it: {' and '.join(named)}, which the settings name; keep {them} too. "


@contextmanager
def _gathered(folder: ProjectFolder) -> Iterator[Path]:
    """The project's files at one moment, as links beside them that outlive what is replaced or deleted meanwhile."""
    path = temporary_sibling(folder.path / "backup")
    try:
        _gather(folder, path)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _gather(folder: ProjectFolder, path: Path) -> None:
    """Link all files, anew until no round took a step meanwhile; BadSetting if that never happens."""
    for _ in range(ATTEMPTS):
        before = _steps_of(folder)
        with suppress(FileNotFoundError):  # it was deleted or replaced in this moment
            _link_all(folder.path, path)
            if _steps_of(folder) == before:
                return
        shutil.rmtree(path, ignore_errors=True)
    raise BadSetting(f"project {folder.project_id} changed {ATTEMPTS} times while it was read; try again")


def _steps_of(folder: ProjectFolder) -> tuple[object, ...]:
    """What moves when a round takes a step: the served version, all versions, and where each round is."""
    registry = folder.registry
    return registry.current(), registry.names(), tuple((r.state.number, r.state.state) for r in all_rounds(folder))


def _link_all(source: Path, target: Path) -> None:
    target.mkdir()  # also where there is no file yet
    for file in _files_in(source):
        linked = target / file.relative_to(source)
        linked.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, linked)
        except FileNotFoundError:
            raise
        except OSError:  # this file system has no links
            shutil.copyfile(file, linked)


def _files_in(folder: Path) -> Iterator[Path]:
    """Files at any depth, without those that are not finished; BadSetting for links, which nobody could restore."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_symlink():
            raise BadSetting(f"{entry} is a link; a backup holds files only: put the file itself there")
        if entry.is_dir():
            yield from _files_in(entry)
        else:
            yield entry


def _add_manifest(archive: tarfile.TarFile, folder: ProjectFolder, files: int) -> None:
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({"format": FORMAT, "uid": folder.uid, "made": made, "files": files}).encode()
    member = tarfile.TarInfo(MANIFEST)
    member.size = len(text)
    archive.addfile(member, io.BytesIO(text))


def _bare(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner's name."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
