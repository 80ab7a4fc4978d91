"""A project's settings: shown, changed one by one, and replaced by those of a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from backend.errors import BadSetting
from backend.label_studio.labels import parse_label_config
from backend.project.config import PRESETS, ProjectConfig, check_config, read_config
from backend.project.folder import ProjectFolder
from backend.project.settings_yaml import parse_settings
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
    return _take(settings, folder, read_config(path))


def change(settings: Settings, folder: ProjectFolder, wanted: Sequence[str]) -> tuple[str, ...]:
    """Give a project single settings, each as `name=value`, or `name=` for what holds where nobody sets it.

    As `replace` otherwise.
    """
    content = folder.config().model_dump(exclude_unset=True)
    for one in wanted:
        name, is_pair, value = (part.strip() for part in one.partition("="))
        if not is_pair:
            raise BadSetting(f"--set takes name=value, such as pool_size=10, got {one!r}")
        content.pop(name, None)
        if value:
            content[name] = _value(one, value)
    return _take(settings, folder, check_config(content, "--set"))


def _value(pair: str, text: str) -> Any:
    try:
        return parse_settings(text.encode())
    except yaml.YAMLError as err:
        raise BadSetting(f"the value of {pair!r} cannot be read as YAML; put it in quotation marks") from err


def _take(settings: Settings, folder: ProjectFolder, after: ProjectConfig) -> tuple[str, ...]:
    before, labels = folder.config(), parse_label_config(find_project(settings, folder).label_config)
    check_start(after.pretrained_weights, after.network_config, after.engine, labels.classes)
    folder.store_config(after)
    changes = [
        f"{name} from {_text(name, getattr(before, name))} to {_text(name, getattr(after, name))}"
        for name in ProjectConfig.model_fields
        if getattr(before, name) != getattr(after, name)
    ]
    told = f"{', '.join(changes)}; a worker follows at its next look" if changes else "nothing changes"
    notes = (f"note: {line}" for line in (*_kept_from_preset(before, after), *after.remarks(labels.classes)))
    return f"project {folder.project_id}: {told}", *notes


def _kept_from_preset(before: ProjectConfig, after: ProjectConfig) -> Iterator[str]:
    """Where another preset is chosen: which of its settings the project's own, from before or now, stand above."""
    kept = [name for name in PRESETS["maskal"] if name in after.model_fields_set]
    if kept and after.preset != before.preset:
        own = ", ".join(f"{name}={_text(name, getattr(after, name))}" for name in kept)
        yield f"the project's own {own} stand{'s' * (len(kept) == 1)} above the preset; `--set NAME=` takes one back"


def _text(name: str, value: Any) -> str:
    """A value as it may stand in a line of YAML."""
    if value is None:
        return UNSET.get(name, CHOSEN)
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True).strip()[1:-1]
