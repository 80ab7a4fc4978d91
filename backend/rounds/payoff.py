"""Whether more images, and choosing them, still pay: worked out when a round has measured, kept in `payoff.json`.

How much more images help is read off the history of versions. What choosing is worth is what annotators had to correct
in the images that were served because the model was unsure, beside those that came by chance: the control group, and
validation images. The rankings that tell one from the other are deleted in time, so what they told is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.label_studio.corrections import Corrections
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder
from backend.rounds.history import History, Measured, read_history
from backend.rounds.receipt import Line, Receipt
from model.errors import BadVersion
from model.files import write_json
from model.rankings import RankedTask
from model.registry import version_number
from model.stored_json import as_kind, read_as
from sampling.stopping import CONFIDENCE, Choice, Measurement, Outlook, compare_with_chance, look_ahead

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of `payoff.json`; one of another format is made anew."""

SEEKS_ERRORS = "uncertainty"
"""The strategy whose chosen images are compared with chance; others look for what is new, or for classes."""

LAST = 300
"""Images whose corrections count, those of the newest versions."""

OF_INTERVAL = 2 * 1.96
"""Standard deviations in an interval of 95 %."""


@dataclass(frozen=True)
class Payoff:
    """What was worked out last; None where there is not enough to tell it from."""

    outlook: Outlook | None
    choice: Choice | None


@dataclass(frozen=True)
class Served:
    """What is known of a version's queue: its settings, and the share of wrong objects in each image of both kinds.

    Of other strategies than SEEKS_ERRORS no images are known.
    """

    strategy: str
    shows_validation: bool
    chosen: tuple[float, ...] = ()
    by_chance: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Stored(Payoff):
    """What the file holds: what was worked out, and by which queues."""

    queues: dict[str, Served] = field(default_factory=dict)


def note_payoff(folder: ProjectFolder, config: ProjectConfig, version: str) -> None:
    """Work it out anew after a version was measured, whose queue will be made by these settings."""
    strategy, queues = config.ranking_config().strategy, _stored(folder).queues
    queues[version] = Served(strategy, config.holdout_prelabels)
    lines = list(Receipt(folder.path).newest().values())
    queues = _newest({name: _looked_up(folder, name, queue, lines) for name, queue in queues.items()})
    chosen = [share for queue in queues.values() for share in queue.chosen]
    by_chance = [share for queue in queues.values() for share in queue.by_chance]
    payoff = Payoff(
        outlook=look_ahead(_measurements(read_history(folder))),
        choice=compare_with_chance(chosen, by_chance) if strategy == SEEKS_ERRORS else None,
    )
    write_json(_path(folder), {"format": FORMAT, **asdict(_Stored(payoff.outlook, payoff.choice, queues))}, indent=None)
    for line in payoff_in_words(payoff):
        logger.info("project %s: %s", folder.uid, line)


def read_payoff(folder: ProjectFolder) -> Payoff:
    """What was worked out last."""
    return _stored(folder)


def payoff_in_words(payoff: Payoff) -> Iterator[str]:
    """What hardly pays any more, and what that rests on; nothing where all pays, or where it cannot be told."""
    outlook, choice, sure = payoff.outlook, payoff.choice, f"with {_percent(CONFIDENCE)} confidence"
    if outlook and outlook.is_flat:
        yield (
            f"more images hardly help any more: {outlook.ahead} more, half as many again, are expected to bring "
            f"{outlook.gain:+.3f} mask AP ({outlook.low:+.3f} to {outlook.high:+.3f} {sure}), by how the last "
            f"{outlook.measurements} versions did on the validation images"
        )
    if choice and choice.hardly_pays:
        yield (
            f"choosing hardly pays over chance: annotators corrected {_percent(choice.chosen_errors)} of the objects "
            f"in the last {choice.chosen} images that the model was unsure of, {_percent(choice.chance_errors)} in "
            f"{choice.by_chance} that came by chance ({choice.times:.2f} times as much, {choice.low:.2f} to "
            f"{choice.high:.2f} {sure})"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _measurements(history: History) -> list[Measurement]:
    """What the versions reached since the measured classes or the network changed last, where its interval is known."""
    found = list[Measurement]()
    for one in reversed(history.versions):
        if not _is_alike(one, history.versions[-1]):
            break
        if one.annotated and one.mask_ap is not None and one.interval is not None:
            low, high = one.interval
            found.append(Measurement(one.annotated, one.mask_ap, (high - low) / OF_INTERVAL))
    return found


def _is_alike(one: Measured, newest: Measured) -> bool:
    """Whether two AP are means over the same classes, and of the same network as far as that is known."""
    classes, now = ({name for name, (ap, _) in each.per_class.items() if ap is not None} for each in (one, newest))
    return classes == now and one.network in (None, newest.network)


def _looked_up(folder: ProjectFolder, version: str, queue: Served, lines: Iterable[Line]) -> Served:
    """The queue with what its images needed; as it is where its ranking is gone, or cannot be read."""
    begun = {line.task: line.corrections for line in lines if line.version == version and line.corrections}
    if queue.strategy != SEEKS_ERRORS or version not in folder.registry.names():
        return queue
    try:
        with folder.registry.open_ranking(version, only=begun) as ranking:
            rows = list(ranking)
    except BadVersion as err:
        logger.warning("project %s: %s is left out of what choosing is worth: %s", folder.uid, version, err)
        return queue
    came = [row for row in rows if row.place < 2 * len(rows) and row.copy_of is None]  # the others a person picked
    chosen = [row for row in came if row.split == "train" and not row.is_control]
    by_chance = [row for row in came if row.is_control or (row.split == "val" and queue.shows_validation)]
    return replace(queue, chosen=_shares(chosen, begun), by_chance=_shares(by_chance, begun))


def _shares(rows: Sequence[RankedTask], begun: Mapping[int, Corrections]) -> tuple[float, ...]:
    return tuple(round(share_wrong(begun[row.task]), 3) for row in rows)


def share_wrong(found: Corrections) -> float:
    """The share of an image's objects that a pre-label had wrong, 0..1.

    An outline that was only moved counts as far as it was: some annotators touch each. Nothing in a pre-label where
    nothing was to be found is right.
    """
    stayed = found.kept + found.moved + found.relabelled
    wrong = found.relabelled + found.deleted + found.added + (1 - (1.0 if found.iou is None else found.iou)) * stayed
    return min(1.0, wrong / (found.proposed + found.added)) if found.proposed + found.added else 0.0


def _newest(queues: Mapping[str, Served]) -> dict[str, Served]:
    """The newest queues, as many as it takes to have LAST images."""
    kept, images = dict[str, Served](), 0
    for name in sorted(queues, key=version_number, reverse=True):
        if images >= LAST:
            break
        kept[name] = queues[name]
        images += len(queues[name].chosen) + len(queues[name].by_chance)
    return dict(reversed(kept.items()))


def _stored(folder: ProjectFolder) -> _Stored:
    """What the file holds; nothing where there is none, or it cannot be read."""
    path = _path(folder)
    try:
        stored = read_as(path, dict[str, Any]) if path.exists() else {}
        if stored.get("format") == FORMAT:
            return as_kind(stored, _Stored, str(path))
    except ValueError as err:
        logger.warning("payoff.json of project %s cannot be read and is made anew: %s", folder.uid, err)
    return _Stored(None, None)


def _path(folder: ProjectFolder) -> Path:
    return folder.path / "payoff.json"
