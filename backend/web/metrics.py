"""What `/metrics` tells Prometheus: requests as they were counted here, all else as Redis and the disk have it."""

from __future__ import annotations

import logging
import time
from collections import Counter as Count
from collections.abc import Iterable, Iterator

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError

from backend.errors import BackendError
from backend.project.folder import ProjectFolder, connected_projects
from backend.queue.jobs import ROUNDS, SHORT, counts_of, running_jobs
from backend.rounds.folder import all_rounds
from backend.rounds.history import read_history
from backend.rounds.standing import read_standing
from backend.settings import Settings
from model.errors import ModelError
from model.files import count_lines

logger = logging.getLogger(__name__)

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

OF_PROJECTS = {
    "round_step_seconds": ("Seconds that each finished step of the newest round took.", ("project", "step")),
    "rounds": ("Rounds on the disk by what became of them, or by how far they are.", ("project", "state")),
    "mask_ap": ("Mask AP of the served version on the validation images of its day, 0 to 1.", ("project",)),
    "annotations_until_next_round": ("Annotations that are missing until the next round.", ("project",)),
    "images_scored": ("Images that the newest round or the served version has scored.", ("project",)),
    "predictions_pushed": ("Predictions of the served version in Label Studio.", ("project",)),
    "unreadable_images": ("Images that are not scored because they cannot be read.", ("project",)),
}
"""Name, sentence and labels of what the disk tells; there is no series per task or version."""


class Metrics:
    """Counts an app's requests, and gathers the rest whenever somebody asks."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "maskal_request_seconds",
            "Seconds until a request was answered.",
            ("route", "status"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.failures = Counter(
            "maskal_request_failures",
            "Requests that ended with an error, by its kind.",
            ("kind",),
            registry=self.registry,
        )
        self.registry.register(_State(settings, redis))

    def watch(self, app: Flask) -> None:
        """Time every request of an app from now on."""
        app.before_request(_note_start)
        app.after_request(self._note_end)

    def note_failure(self, err: Exception) -> None:
        """Count an error that a request ended with."""
        self.failures.labels(type(err).__name__).inc()

    def answer(self) -> Response:
        """All metrics in Prometheus' text format."""
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)

    def _note_end(self, response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else "none"
        begun = g.get("begun_at", time.monotonic())
        self.seconds.labels(route, str(response.status_code)).observe(time.monotonic() - begun)
        return response


def _note_start() -> None:
    g.begun_at = time.monotonic()


class _State(Collector):
    """What Redis and DATA_DIR hold at the moment of a scrape."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.settings, self.redis = settings, redis

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering reads nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The queues, then the projects; one that cannot be read is left out and logged."""
        yield from self._queues()
        families = {
            name: GaugeMetricFamily(f"maskal_{name}", told, labels=labels)
            for name, (told, labels) in OF_PROJECTS.items()
        }
        for folder in connected_projects(self.settings.data_dir):
            try:
                for name, labels, value in list(_facts(folder)):
                    families[name].add_metric((str(folder.project_id), *labels), value)
            except (BackendError, ModelError, OSError, ValueError) as err:
                logger.warning("project %s is left out of the metrics: %s", folder.uid, err)
        yield from families.values()

    def _queues(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("maskal_redis_up", "Whether Redis answers, 1 or 0.")
        jobs = GaugeMetricFamily("maskal_queue_jobs", "Jobs by queue and state.", labels=("queue", "state"))
        age = GaugeMetricFamily("maskal_job_running_seconds", "Age of a running job.", labels=("queue", "job"))
        try:
            for queue in (ROUNDS, SHORT):
                for state, count in counts_of(self.redis, queue).items():
                    jobs.add_metric((queue, state), count)
                for function, age_s in running_jobs(self.redis, queue).items():
                    age.add_metric((queue, function), age_s)
            up.add_metric((), 1)
        except RedisError as err:
            logger.warning("no metrics of the queues, Redis does not answer: %s", err)
            up.add_metric((), 0)
        yield from (up, jobs, age)


Fact = tuple[str, tuple[str, ...], float]


def _facts(folder: ProjectFolder) -> Iterator[Fact]:
    """Name, labels after the project's, and value of what the disk tells of a project."""
    rounds, served = all_rounds(folder), folder.registry.current()
    if rounds:
        yield from (("round_step_seconds", (step,), s) for step, s in rounds[-1].state.seconds.items())
    yield from (("rounds", (state,), n) for state, n in Count(one.state.state for one in rounds).items())
    pushed = count_lines(folder.registry.ranking_path(served)) if served else 0
    yield "predictions_pushed", (), pushed
    yield "images_scored", (), count_lines(rounds[-1].scores) if rounds and rounds[-1].is_unfinished else pushed
    measured = next((one for one in read_history(folder).versions if one.version == served), None)
    if measured is not None and measured.mask_ap is not None:
        yield "mask_ap", (), measured.mask_ap
    standing = read_standing(folder)
    if standing is not None:
        yield "unreadable_images", (), standing.unreadable_count
        if standing.missing is not None:
            yield "annotations_until_next_round", (), standing.missing
