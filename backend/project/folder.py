"""The projects that this backend serves: their folders under DATA_DIR."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from backend.errors import NotFound
from backend.project.config import ProjectConfig, read_config
from model.files import write_atomically, write_json
from model.registry import Registry
from model.stored_json import read_as

DISCONNECTED = "disconnected"
"""A file of this name in a project's folder says that the project is no longer looked after."""

UID = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class _Tab:
    """What `tab.json` holds: the id of our tab in the Data Manager."""

    view: int


@dataclass(frozen=True)
class ProjectFolder:
    """One project's folder, `DATA_DIR/projects/<uid>`; uid = `<id>.<created timestamp>`."""

    path: Path

    @property
    def uid(self) -> str:
        """The project's uid."""
        return self.path.name

    @property
    def data_dir(self) -> Path:
        """What all projects share."""
        return self.path.parents[1]

    @property
    def project_id(self) -> int:
        """The project's number in Label Studio."""
        return int(self.uid.partition(".")[0])

    @property
    def is_connected(self) -> bool:
        """Whether the workers look after the project."""
        return self.path.is_dir() and not (self.path / DISCONNECTED).exists()

    def disconnect(self) -> None:
        """Let the workers leave the project alone; its versions stay."""
        write_atomically(self.path / DISCONNECTED, "connect the project again to go on with what is here\n")

    @property
    def registry(self) -> Registry:
        """The project's versions."""
        return Registry(self.path)

    @property
    def rounds(self) -> Path:
        """Where the rounds are."""
        return self.path / "rounds"

    def tab(self) -> int | None:
        """Id of our tab in the project's Data Manager; None before it was made."""
        path = self.path / "tab.json"
        return read_as(path, _Tab).view if path.exists() else None

    def store_tab(self, view: int) -> None:
        """Keep the id of our tab."""
        write_json(self.path / "tab.json", asdict(_Tab(view)))

    def config(self) -> ProjectConfig:
        """The project's settings, those of its `config.yaml` or all defaults."""
        path = self.path / "config.yaml"
        return read_config(path) if path.exists() else ProjectConfig()

    def store_config(self, config: ProjectConfig) -> None:
        """Keep the project's settings."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(exclude_unset=True), sort_keys=False)
        write_atomically(self.path / "config.yaml", text)


def connect_folder(data_dir: Path, uid: str) -> ProjectFolder:
    """The folder of a project, made if it does not exist; from then on the workers look after the project."""
    folder = ProjectFolder(data_dir / "projects" / uid)
    folder.rounds.mkdir(parents=True, exist_ok=True)
    (folder.path / DISCONNECTED).unlink(missing_ok=True)
    return folder


def connected_projects(data_dir: Path) -> list[ProjectFolder]:
    """All projects that were connected, in the order of their numbers."""
    found = (ProjectFolder(p) for p in (data_dir / "projects").glob("*") if UID.fullmatch(p.name))
    folders = [folder for folder in found if folder.is_connected]
    return sorted(folders, key=lambda folder: tuple(int(part) for part in folder.uid.split(".")))


def find_folder(data_dir: Path, project_id: int, uid: str | None = None) -> ProjectFolder:
    """The folder of a connected project, by uid or, without one, the newest of that number; NotFound else."""
    matching = [f for f in connected_projects(data_dir) if f.project_id == project_id and uid in (None, f.uid)]
    if not matching:
        raise NotFound(f"project {uid or project_id} is not connected; run `maskal connect --project {project_id}`")
    return matching[-1]
