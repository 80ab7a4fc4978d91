"""Where a training run stands, on disk: a killed run goes on from there as if nothing had been."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from model import checkpoints
from model.engines.base import Engine
from model.errors import BadCheckpoint

logger = logging.getLogger(__name__)

NETWORK, BEST, OPTIMIZER, CHANCE = "network/", "best/", "optimizer/", "chance/"


@dataclass
class TrainingState:
    """What a run has come to.

    step         steps done
    losses       of each step, summed
    evaluations  (step, mask AP) on the validation images
    parts        in how many parts a batch has to be computed for the memory to suffice
    seconds      spent, over all attempts
    best         weights of the best evaluation, on the CPU; None without any
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    parts: int = 1
    seconds: float = 0.0
    best: dict[str, torch.Tensor] | None = None


def save_state(
    path: Path, state: TrainingState, engine: Engine, optimizer: torch.optim.Optimizer, config: dict[str, Any]
) -> None:
    """Write all that a run needs to go on; `config` is what it must not differ in (JSON)."""
    tensors = {NETWORK + name: value for name, value in engine.tensors().items()}
    tensors |= {BEST + name: value for name, value in (state.best or {}).items()}
    numbers: dict[str, dict[str, float]] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{OPTIMIZER}{index}/{name}"] = value
            elif value is not None:
                numbers.setdefault(str(index), {})[name] = value
    tensors[CHANCE + "cpu"] = torch.get_rng_state()
    if (device := _cuda_of(engine)) is not None:
        tensors[CHANCE + "cuda"] = torch.cuda.get_rng_state(device)
    facts = {name: value for name, value in vars(state).items() if name != "best"}
    about = {"config": config, "classes": engine.classes, "state": facts, "optimizer": numbers}
    checkpoints.save(path, tensors, {"training": json.dumps(about)})


def load_state(
    path: Path, engine: Engine, optimizer: torch.optim.Optimizer, config: dict[str, Any]
) -> TrainingState | None:
    """Put engine, optimizer and torch's generators where a run stood; None if it has to start anew.

    It has to where there is no such file, where it cannot be read or is another network's, or where the settings have
    changed since.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = checkpoints.load(path)
        about = json.loads(metadata["training"])
    except (BadCheckpoint, KeyError, ValueError) as err:
        logger.warning("the training starts anew, what it had come to cannot be read: %s", err)
        return None
    if (about["config"], about["classes"]) != (json.loads(json.dumps(config)), list(engine.classes)):
        logger.warning("the training starts anew: its settings have changed")
        return None
    try:
        engine.load_tensors(_below(NETWORK, tensors), engine.classes)
    except BadCheckpoint as err:
        logger.warning("the training starts anew, what it had come to is another network's: %s", err)
        return None
    _load_moments(optimizer, about["optimizer"], _below(OPTIMIZER, tensors))
    _load_chance(engine, _below(CHANCE, tensors))
    evaluations = [(int(step), float(ap)) for step, ap in about["state"].pop("evaluations")]
    return TrainingState(**about["state"], evaluations=evaluations, best=_below(BEST, tensors) or None)


def _load_moments(
    optimizer: torch.optim.Optimizer, numbers: dict[str, dict[str, float]], tensors: dict[str, torch.Tensor]
) -> None:
    """Put an optimizer where it stood: numbers by a parameter's index, and tensors by index and name."""
    moments: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in numbers.items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition("/")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)  # fused optimizers take the parameter's memory layout
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _load_chance(engine: Engine, states: dict[str, torch.Tensor]) -> None:
    """Put torch's generators where they stood; the GPU's only if there was one and is one."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and (device := _cuda_of(engine)) is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


def _cuda_of(engine: Engine) -> torch.device | None:
    """The GPU that an engine is on, None if it is on none."""
    device: torch.device = next(engine.network.parameters()).device
    return device if device.type == "cuda" else None


def config_facts(config: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON."""
    facts: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return facts


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
