"""`maskal report`: the page of a project as one file."""

from __future__ import annotations

import time
from pathlib import Path

from redis import Redis

from backend.care.overview import look_over
from backend.care.words import Discretion
from backend.project.folder import ProjectFolder
from backend.settings import Settings
from backend.web.rendering import Renderer
from model.files import write_atomically


def write_report(settings: Settings, redis: Redis | None, folder: ProjectFolder, out: Path) -> str:
    """Write what there is to see of a project, with its pictures, into one HTML file; says what was written."""
    seen = look_over(folder, redis, Discretion(settings))
    write_atomically(out, Renderer.make().report(seen, settings.data_dir, time.time()))
    return f"{out}: {seen.title}, {seen.served or 'no version yet'}, {out.stat().st_size / 1e6:.1f} MB"
