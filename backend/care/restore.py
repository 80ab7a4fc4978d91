"""`maskal restore`: a project from the file of a backup, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from backend.care.backup import FORMAT, MANIFEST, PROJECT, SECRETS
from backend.errors import BadSetting
from backend.project.folder import UID, ProjectFolder, connected_projects
from backend.rounds.folder import all_rounds
from backend.settings import Settings
from model.errors import NewerFormat
from model.files import temporary_sibling

LARGEST_MANIFEST = 10_000


def restore(settings: Settings, file: Path) -> str:
    """Put a project back where DATA_DIR has none of its number; says what was done.

    Raises BadSetting for what is no backup or does not fit here, NewerFormat for one of a newer release.
    """
    try:
        with tarfile.open(file, "r:") as archive:
            members = list(_checked(archive, file))
            folder = ProjectFolder(settings.data_dir / "projects" / _uid_in(archive, members, file))
            _require_room(settings, folder, members)
            _fill(archive, members, folder)
            has_secrets = _restore_secrets(archive, members, settings)
    except tarfile.TarError as err:
        raise BadSetting(f"{file} is no backup, or it is damaged ({err}); take another one") from err
    secrets = "with its secrets" if has_secrets else "without secrets"
    return (
        f"project {folder.project_id} is restored {secrets}, serving {folder.registry.current() or 'no version yet'}; "
        f"run `maskal connect --project {folder.project_id}`, then `maskal doctor --project {folder.project_id}`"
    )


def _checked(archive: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    """The members, all of them plain files at places where a backup has them."""
    seen: set[str] = set()
    for member in archive:
        path = PurePosixPath(member.name)
        is_ours = member.name in (MANIFEST, SECRETS) or (path.parts[:1] == (PROJECT,) and len(path.parts) > 1)
        is_plain = path.as_posix() == member.name and ".." not in path.parts and "\0" not in member.name
        is_whole = member.isreg() and not member.issparse()  # a sparse file of some bytes may fill the disk
        if not (is_whole and is_ours and is_plain and member.name not in seen):
            kind = "a link" if member.issym() or member.islnk() else "not a file of a backup"
            raise BadSetting(f"{file} holds {member.name[:100]!r}, which is {kind}; nothing was restored")
        seen.add(member.name)
        yield member


def _uid_in(archive: tarfile.TarFile, members: list[tarfile.TarInfo], file: Path) -> str:
    if not members or members[0].name != MANIFEST or members[0].size > LARGEST_MANIFEST:
        raise BadSetting(f"{file} is no backup of `maskal backup`: it does not begin with {MANIFEST}")
    try:
        manifest = json.loads(_open(archive, members[0]).read())
        found, uid, files = int(manifest["format"]), str(manifest["uid"]), int(manifest["files"])
    except (ValueError, KeyError, TypeError) as err:
        raise BadSetting(f"{file} is damaged: {MANIFEST} cannot be read ({err}); take another backup") from err
    if found > FORMAT:
        raise NewerFormat(f"{file} has format {found}, this release knows up to {FORMAT}; upgrade maskal-studio")
    if not UID.fullmatch(uid):
        raise BadSetting(f"{file} is damaged: wanted a project's uid such as 3.1700000000, got {uid[:50]!r}")
    held = sum(member.name not in (MANIFEST, SECRETS) for member in members)
    if held != files:
        raise BadSetting(f"{file} is cut off: it holds {held} of {files} files; take another backup")
    return uid


def _require_room(settings: Settings, folder: ProjectFolder, members: list[tarfile.TarInfo]) -> None:
    """Raise BadSetting where the project, or another one of its number, is here already, or where the disk is full."""
    if folder.path.exists() and not folder.is_connected:
        raise BadSetting(
            f"{folder.path} is kept from before it was disconnected; delete that folder, or move it away, and restore "
            "then"
        )
    if folder.path.exists():
        raise BadSetting(
            f"{folder.path} is in use; run `maskal disconnect --project {folder.project_id} --delete`, or move it away"
        )
    others = [other.uid for other in connected_projects(settings.data_dir) if other.project_id == folder.project_id]
    if others:
        raise BadSetting(
            f"project {folder.project_id} is {others[-1]} here and {folder.uid} in the backup: that was another Label "
            "Studio's database; restore into a DATA_DIR of its own"
        )
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    wanted, free = sum(member.size for member in members), shutil.disk_usage(folder.path.parent).free
    if wanted > free:
        raise BadSetting(f"the backup holds {wanted / 1e6:.0f} MB, {folder.path.parent} has {free / 1e6:.0f} MB left")


def _fill(archive: tarfile.TarFile, members: list[tarfile.TarInfo], folder: ProjectFolder) -> None:
    """Write the project's files beside its place, look whether they can be read, and rename the folder."""
    temporary = temporary_sibling(folder.path)
    try:
        temporary.mkdir()
        for member in members:
            path = PurePosixPath(member.name)
            if path.parts[0] == PROJECT:
                _write(archive, member, temporary.joinpath(*path.parts[1:]))
        _require_readable(ProjectFolder(temporary))
        (temporary / "rounds").mkdir(exist_ok=True)
        os.rename(temporary, folder.path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_readable(folder: ProjectFolder) -> None:
    folder.config()
    all_rounds(folder)
    for name in folder.registry.names():
        folder.registry.get(name)
    served = folder.registry.current()
    if served is not None and served not in folder.registry.names():
        raise BadSetting(f"the backup serves {served} but does not hold it; take another one")


def _restore_secrets(archive: tarfile.TarFile, members: list[tarfile.TarInfo], settings: Settings) -> bool:
    """Put the secrets back where DATA_DIR has none; those that it has are what running processes use."""
    target = settings.data_dir / SECRETS
    for member in members:
        if member.name == SECRETS and not target.exists():
            _write(archive, member, target)
            return True
    return False


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if member.name == SECRETS else 0o666
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        shutil.copyfileobj(_open(archive, member), file)
        file.flush()
        os.fsync(file.fileno())


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", archive.extractfile(member))  # None only for what is no plain file
