"""How the tasks of a ranking that lack a score are cut into pieces, each to be scored by any worker."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from backend.label_studio.client import Task
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.workplace import Workplace
from model.errors import DamagedFile
from model.files import TEMPORARY_PREFIX, write_atomically
from model.stored_json import read_as

logger = logging.getLogger(__name__)

PIECE = 64
"""Tasks of a piece: seconds on a GPU, half a minute on a CPU. Whole batches, so that these are as of one worker."""

NAME = "cut.json"
DISTRIBUTION = "maskal-studio"


@dataclass(frozen=True)
class Conditions:
    """What a score depends on besides the task: pieces that were scored under other ones are not taken.

    is_looked_at: whether an onlooker looks at each image beside the version.
    """

    version: str
    release: str
    label_config: str
    config: dict[str, Any]
    is_looked_at: bool

    @staticmethod
    def of(place: Workplace, version: str, *, is_looked_at: bool) -> Conditions:
        """Those of a version's ranking in a workplace."""
        config = place.config.model_dump(mode="json", exclude_unset=True)
        return Conditions(version, installed_version(DISTRIBUTION), place.label_config, config, is_looked_at)

    @property
    def is_of_this_release(self) -> bool:
        """Whether this process scores as the one that made the cut does."""
        return self.release == installed_version(DISTRIBUTION)

    def at(self, place: Workplace) -> Workplace:
        """Another process's workplace under these conditions, whatever was changed in the project meanwhile."""
        config = ProjectConfig.model_validate(self.config)
        labels = parse_label_config(self.label_config)
        return replace(place, label_config=self.label_config, labels=labels, config=config)


@dataclass(frozen=True)
class Cut:
    """Pieces of a ranking, and under which conditions they are scored."""

    conditions: Conditions
    pieces: tuple[tuple[Task, ...], ...]


def cut_tasks(folder: Path, conditions: Conditions, tasks: Sequence[Task], size: int) -> tuple[Path, Cut]:
    """Cut tasks into pieces of a size, the last one smaller; returns the new folder for them, made in `folder`."""
    cut = Cut(conditions, tuple(tuple(tasks[at : at + size]) for at in range(0, len(tasks), size)))
    made = folder / secrets.token_hex(4)
    made.mkdir(parents=True)
    pieces = [[{"id": t.id, "data": t.data, "is_labeled": t.is_labeled} for t in piece] for piece in cut.pieces]
    write_atomically(made / NAME, json.dumps({"conditions": asdict(conditions), "pieces": pieces}))
    return made, cut


def find_cuts(folder: Path) -> list[Path]:
    """The folders in `folder` that hold a whole cut: one while a ranking is shared, or was when its worker stopped."""
    return sorted(path.parent for path in folder.glob(f"*/{NAME}"))


def read_cut(made: Path) -> Cut | None:
    """The cut of a folder; None where it is gone, or damaged, which is logged."""
    try:
        return read_as(made / NAME, Cut)
    except FileNotFoundError:
        return None
    except DamagedFile as err:
        logger.warning("the pieces of a ranking are left aside: %s", err)
        return None


def remove_cuts(folder: Path) -> None:
    """Remove all of it, whoever still writes there: those find no folder of that name any more."""
    if folder.exists():
        doomed = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{secrets.token_hex(8)}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
