"""A project's settings: shown, and replaced by those of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig, read_config
from backend.project.folder import ProjectFolder
from backend.project.workplace import find_project
from backend.rounds.starts import check_start
from backend.settings import Settings

CHOSEN = "chosen by network, device and data"
UNSET = {"loops": "no limit", "coverage_uncertainty": "measured"}
"""What holds where a setting has no value; CHOSEN for all others."""


def show(folder: ProjectFolder) -> Iterator[str]:
    """All settings of a project as lines of a YAML file: what it sets plain, the rest as comments."""
    config = folder.config()
    yield f"# settings of project {folder.project_id}; lines with # are as nobody set them"
    for name in ProjectConfig.model_fields:
        value = getattr(config, name)
        if name in config.model_fields_set:
            yield f"{name}: {_text(name, value)}"
        else:
            yield f"# {name}: {_text(name, value)}"


def replace(settings: Settings, folder: ProjectFolder, path: Path) -> tuple[str, ...]:
    """Take the settings of a YAML file in place of a project's own; lines say what that changes, and what does nothing.

    Weights and network are checked first, so that nothing is changed if they are wrong. Raises BadSetting,
    BadCheckpoint or BadEngine.
    """
    before, after = folder.config(), read_config(path)
    labels = parse_label_config(find_project(settings, folder).label_config)
    check_start(after.pretrained_weights, after.network_config, after.engine, labels.classes)
    folder.store_config(after)
    changes = [
        f"{name} from {_text(name, getattr(before, name))} to {_text(name, getattr(after, name))}"
        for name in ProjectConfig.model_fields
        if getattr(before, name) != getattr(after, name)
    ]
    told = f"{', '.join(changes)}; a worker follows at its next look" if changes else "nothing changes"
    notes = (f"note: {line}" for line in after.remarks(labels.classes))
    return f"project {folder.project_id}: {told}", *notes


def _text(name: str, value: Any) -> str:
    """A value as it may stand in a line of YAML."""
    if value is None:
        return UNSET.get(name, CHOSEN)
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
