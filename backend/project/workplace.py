"""What all work on a project needs: its folder and settings, Label Studio, its images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from backend.errors import NotFound
from backend.label_studio.client import LabelStudio, Project
from backend.label_studio.images import Images
from backend.label_studio.labels import LabelConfig, parse_label_config
from backend.label_studio.pushing import Pusher
from backend.project.config import ProjectConfig
from backend.project.credentials import load_credentials
from backend.project.folder import ProjectFolder
from backend.settings import Settings, read_address, read_key


class ProjectFacts(Protocol):
    """What a workplace needs to know of a project: a `client.Project` tells it, and so does a call to `/predict`."""

    @property
    def label_config(self) -> str:
        """The labelling config."""
        ...

    @property
    def image_login(self) -> tuple[str, str] | None:
        """Name and password for task data."""
        ...


@dataclass(frozen=True)
class Workplace:
    """One project, as a job or a request sees it."""

    folder: ProjectFolder
    client: LabelStudio
    images: Images
    label_config: str
    labels: LabelConfig
    config: ProjectConfig

    def pusher(self, version: str) -> Pusher:
        """What sends a version's predictions to the project."""
        journal = self.folder.path / f"push-{version}.json"
        return Pusher(self.client, self.folder.project_id, version, journal)


def open_workplace(settings: Settings, folder: ProjectFolder, source: ProjectFacts | None = None) -> Workplace:
    """The workplace of a connected project; what `source` does not tell is asked from Label Studio.

    Raises BadSetting, BadLabelConfig or LabelStudioError.
    """
    client = open_client(settings)
    source = source or client.project(folder.project_id)
    images = Images(client, settings, source.image_login, folder.project_id)
    labels = parse_label_config(source.label_config)
    return Workplace(folder, client, images, source.label_config, labels, folder.config())


def open_client(settings: Settings, url: str | None = None, api_key: str | None = None) -> LabelStudio:
    """The connected Label Studio, or another with an address and key of its own; BadSetting if one is not known."""
    known = load_credentials(settings)
    chosen = replace(
        known,
        label_studio_url=read_address(url, "--url") if url else known.label_studio_url,
        label_studio_api_key=read_key(api_key, "--api-key") if api_key else known.label_studio_api_key,
    )
    is_known = chosen.label_studio_url == known.label_studio_url
    return LabelStudio(*chosen.require_label_studio(), public_url=known.label_studio_public_url if is_known else None)


def find_project(settings: Settings, folder: ProjectFolder) -> Project:
    """A folder's project; NotFound if it was deleted, or if its number belongs to a project of another database."""
    kept = f"{folder.path} is kept, remove it if it is no longer needed"
    try:
        project = open_client(settings).project(folder.project_id)
    except NotFound as err:
        raise NotFound(f"project {folder.uid} no longer exists in Label Studio; {kept}") from err
    if project.uid != folder.uid:
        raise NotFound(
            f"project {folder.uid} is not in this Label Studio, whose number {project.id} is {project.uid}; {kept}"
        )
    return project
