"""A project under the doctor's examination, and what a check finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from redis import Redis

from backend.errors import BackendError
from backend.label_studio.client import TITLE, LabelStudio, Project
from backend.label_studio.labels import LabelConfig, parse_label_config
from backend.project.credentials import BASIC_USER, Credentials, load_credentials
from backend.project.folder import ProjectFolder, connected_projects
from backend.queue.connection import open_redis
from backend.settings import Settings

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


@dataclass(frozen=True)
class Finding:
    """What one check found: its name, OK, WARNING, FAILED or SKIPPED, and one line with the mend if there is one."""

    check: str
    state: str
    message: str


class Doubt(BackendError):
    """A check found something that works, but not as well as it could."""


class Fault(BackendError):
    """A check found a broken link."""


@dataclass
class Case:
    """One project under examination; what several checks need is asked once, when first needed."""

    settings: Settings
    project_id: int
    done: dict[str, Finding] = field(default_factory=dict)

    @cached_property
    def credentials(self) -> Credentials:
        """What this machine's DATA_DIR and environment hold."""
        return load_credentials(self.settings)

    @cached_property
    def client(self) -> LabelStudio:
        """Label Studio, with few attempts: a doctor does not wait."""
        public_url = self.credentials.label_studio_public_url
        return LabelStudio(*self.credentials.require_label_studio(), public_url=public_url, timeout_s=10, attempts=2)

    @cached_property
    def project(self) -> Project:
        """The project as Label Studio has it."""
        return self.client.project(self.project_id)

    @cached_property
    def labels(self) -> LabelConfig:
        """Its labelling config."""
        return parse_label_config(self.project.label_config)

    @cached_property
    def folder(self) -> ProjectFolder:
        """Its folder under DATA_DIR."""
        same_number = [f for f in connected_projects(self.settings.data_dir) if f.project_id == self.project_id]
        folder = next((f for f in same_number if f.uid == self.project.uid), None)
        if folder is None:
            other = f"; {same_number[-1].uid} of another Label Studio is, and stays as it is" if same_number else ""
            raise Fault(f"project {self.project.uid} is not connected here{other}; {self.mend}")
        return folder

    @cached_property
    def redis(self) -> Redis:
        """The queue's Redis."""
        return open_redis(self.settings)

    @cached_property
    def address(self) -> str:
        """This project's address at the backend, as Label Studio calls it."""
        backends = self.client.backends(self.project_id)
        own = [b["url"] for b in backends if b["title"] == TITLE or b["basic_auth_user"] == BASIC_USER]
        if not own:
            raise Fault(f"Label Studio lists no ML backend {TITLE!r} for project {self.project_id}; {self.mend}")
        return str(own[0]).rstrip("/")

    @property
    def mend(self) -> str:
        """What mends most links."""
        return f"run `maskal connect --project {self.project_id}`"
