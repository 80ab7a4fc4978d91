"""How far uncertainty has proved itself in a round, and what status says of choosing by objects; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from backend.counted import counted
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.rounds.folder import Round
from model.files import write_atomically, write_json
from model.registry import version_number
from model.stored_json import read_as
from sampling.strategies import BY_OBJECTS

FILE = "trial.json"
OBSTACLE = "choosing_obstacle.txt"


@dataclass(frozen=True)
class Trial:
    """How far uncertainty has proved itself, 0..1; on how many validation images, and how long that took."""

    trust: float
    images: int
    seconds: float


def note_obstacle(current: Round, obstacle: str) -> None:
    """Keep why nobody can look at objects for a round's strategy; empty: somebody can."""
    path = current.path / OBSTACLE
    if obstacle:
        write_atomically(path, obstacle)
    else:
        path.unlink(missing_ok=True)


def fallback_in_words(config: ProjectConfig, ranked: Round | None) -> str:
    """Why a project does not choose as its settings say, now or in the round that `ranked` its queue; empty if it does.

    The objects of `coverage` cannot be had otherwise, `diverse` has the round's own network.
    """
    needed = f"strategy {config.strategy} needs a network that has seen images before"
    if config.falls_back:
        start = f"engine {config.engine}" if config.engine == "fake" else "pretrained_weights: none"
        return f"{needed}; with {start} it is uncertainty"
    path = ranked.path / OBSTACLE if ranked else None
    if path is None or not config.looks_at_objects or not path.exists():
        return ""
    instead = "it is uncertainty" if config.strategy in BY_OBJECTS else "it compares by what its own network sees"
    return f"{needed}; {instead} until the next version, as that one cannot be had: {path.read_text()}"


def write_trial(current: Round, trial: Trial) -> None:
    """Keep a round's trial."""
    write_json(current.path / FILE, asdict(trial))


def read_trial(current: Round) -> Trial | None:
    """The trial of a round; None if there was none."""
    path = current.path / FILE
    return read_as(path, Trial) if path.exists() else None


def round_of_queue(folder: ProjectFolder) -> Round | None:
    """The round that made the served version, and its queue; None before the first."""
    served = folder.registry.current()
    return Round(folder.rounds / str(version_number(served))) if served else None


def choosing_in_words(folder: ProjectFolder) -> Iterator[str]:
    """What status says of a strategy that looks at objects: why it is not used, or what it rests on."""
    config, ranked = folder.config(), round_of_queue(folder)
    if fallback := fallback_in_words(config, ranked):
        yield fallback
    trial = read_trial(ranked) if ranked else None
    if trial is not None and config.coverage_uncertainty is None:
        yield (
            f"uncertainty counts {trial.trust:.2f} of 1 in choosing, tried on "
            f"{counted(trial.images, 'validation image')} in {trial.seconds:.0f} s"
        )
