"""What choosing by objects needs besides the scores: an onlooker, what is annotated, and a trial of uncertainty."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from backend.errors import BadImage
from backend.project.workplace import Workplace
from backend.rounds.computing import open_feature_cache
from backend.rounds.folder import Round
from backend.rounds.records import Loader, records_of
from backend.rounds.scoring import Scorer, task_seed
from backend.rounds.seen_objects import Onlooker, annotated_features
from backend.rounds.trial import Trial, fallback_in_words, note_obstacle, write_trial
from model.engines.base import Engine
from model.errors import BadCheckpoint
from model.judging.evaluation import detections_of, truth_of
from model.judging.mistakes import mistakes_in
from model.records import Record, boxes_of
from sampling.coverage import Known, proved
from sampling.strategies import BY_OBJECTS

logger = logging.getLogger(__name__)

TRIED = 150
"""Validation images on which uncertainty is tried, at most."""


@dataclass(frozen=True, eq=False)
class Means:
    """What tasks are scored with, and who looks at their images beside it."""

    engine: Engine
    onlooker: Onlooker | None


def open_onlooker(place: Workplace) -> Onlooker:
    """Who looks at a project's images beside a version; BadCheckpoint where the network for it cannot be had."""
    return Onlooker(open_feature_cache(place), place.config.mcd_iterations)


def onlooker_for(place: Workplace, current: Round) -> Onlooker | None:
    """Who looks at images beside the version of a round; None where the strategy needs nobody.

    None, too, where the strategy's network cannot be had, which is noted in the round for those who ask.
    """
    config, onlooker, obstacle = place.config, None, ""
    try:
        if config.looks_at_objects:
            onlooker = open_onlooker(place)
    except BadCheckpoint as err:
        obstacle = str(err)
    note_obstacle(current, obstacle)
    if fallback := fallback_in_words(config, current):
        logger.warning("project %s: %s", place.folder.uid, fallback)
    return onlooker


def strategy_of(place: Workplace, means: Means) -> str:
    """By what a queue is ordered: uncertainty where nobody can look at objects for a strategy that asks for it."""
    strategy = place.config.ranking_config().strategy
    return strategy if means.onlooker or strategy not in BY_OBJECTS else "uncertainty"


def known_objects(place: Workplace, current: Round, means: Means) -> Known | None:
    """What is annotated for training, and how far uncertainty has proved itself on what is for validation.

    None where the strategy does not ask for it.
    """
    if not means.onlooker or place.config.strategy not in BY_OBJECTS:
        return None
    records, uris = records_of(place, current, "train")
    cache = means.onlooker.cache
    found = [annotated_features(cache.maps(image), boxes_of(r)) for r, image in _readable(place, uris, records)]
    trial = _try_uncertainty(place, current, means.engine)
    write_trial(current, trial)
    words = "project %s: uncertainty counts %.2f, tried on %d validation images in %.1f s"
    logger.info(words, place.folder.uid, trial.trust, trial.images, trial.seconds)
    return Known(np.concatenate(found) if found else np.zeros((0, 0), np.float32), trial.trust)


def _readable(place: Workplace, uris: dict[str, str], records: Sequence[Record]) -> Iterator[tuple[Record, np.ndarray]]:
    """Those records whose images can still be read, with the images."""
    load = Loader(place, uris)
    for record in records:
        try:
            yield record, load.of(record)
        except BadImage as err:
            logger.warning("task %s does not count for choosing: %s", record.image, err)


def _try_uncertainty(place: Workplace, current: Round, engine: Engine) -> Trial:
    """Compare the uncertainty of validation images with the share of their objects that is wrong."""
    started = time.monotonic()
    records, uris = records_of(place, current, "val")
    scorer, threshold = Scorer(engine, place.labels, place.config.scoring_config()), place.config.confidence_threshold
    pairs = []
    for record, image in _readable(place, uris, records[:TRIED]):
        [scored] = scorer.images([image], [task_seed(current.version, int(record.image))])
        found = detections_of(engine.predict(image, confidence_threshold=threshold))
        look = mistakes_in(truth_of(record, engine.classes), found, threshold)
        if scored.certainty is not None and (objects := len(look) + len(look.right)):
            pairs.append((1 - scored.certainty, len(look) / objects))
    uncertainties, errors = np.array(pairs).reshape(-1, 2).T
    return Trial(round(proved(uncertainties, errors), 3), len(pairs), round(time.monotonic() - started, 1))
