"""How far uncertainty has proved itself in a round, and what status says of choosing by objects; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.rounds.folder import Round
from model.files import write_json
from model.registry import version_number
from model.stored_json import read_as

FILE = "trial.json"


@dataclass(frozen=True)
class Trial:
    """How far uncertainty has proved itself, 0..1; on how many validation images, and how long that took."""

    trust: float
    images: int
    seconds: float


def fallback_in_words(config: ProjectConfig) -> str:
    """Why a project does not choose as its settings say."""
    start = f"engine {config.engine}" if config.engine == "fake" else "pretrained_weights: none"
    return f"strategy {config.strategy} needs a network that has seen images before; with {start} it is uncertainty"


def write_trial(current: Round, trial: Trial) -> None:
    """Keep a round's trial."""
    write_json(current.path / FILE, asdict(trial))


def read_trial(current: Round) -> Trial | None:
    """The trial of a round; None if there was none."""
    path = current.path / FILE
    return read_as(path, Trial) if path.exists() else None


def choosing_in_words(folder: ProjectFolder) -> Iterator[str]:
    """What status says of a strategy that looks at objects: why it is not used, or what it rests on."""
    config, served = folder.config(), folder.registry.current()
    if config.falls_back:
        yield fallback_in_words(config)
    trial = read_trial(Round(folder.rounds / str(version_number(served)))) if served else None
    if trial is not None and config.coverage_uncertainty is None:
        yield (
            f"uncertainty counts {trial.trust:.2f} of 1 in choosing, tried on {trial.images} validation images "
            f"in {trial.seconds:.0f} s"
        )
