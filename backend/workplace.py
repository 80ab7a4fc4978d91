"""What all work on a project needs: its folder and settings, Label Studio, its images."""

from __future__ import annotations

from dataclasses import dataclass

from backend.client import LabelStudio
from backend.config import ProjectConfig
from backend.credentials import load_credentials
from backend.images import Images
from backend.labels import LabelConfig, parse_label_config
from backend.projects import ProjectFolder
from backend.pushing import Pusher
from backend.settings import Settings


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


def open_workplace(settings: Settings, folder: ProjectFolder, label_config: str | None = None) -> Workplace:
    """The workplace of a connected project; the labelling config is asked from Label Studio unless given.

    Raises BadSetting, BadLabelConfig or LabelStudioError.
    """
    client = open_client(settings)
    xml = client.project(folder.project_id).label_config if label_config is None else label_config
    return Workplace(folder, client, Images(client, settings), xml, parse_label_config(xml), folder.config())


def open_client(settings: Settings) -> LabelStudio:
    """The connected Label Studio; BadSetting if there is none yet."""
    url, api_key = load_credentials(settings).require_label_studio()
    return LabelStudio(url, api_key)
