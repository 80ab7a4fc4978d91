"""One real system for the whole session: Label Studio, Redis, backend and worker; each test makes its own project."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from backend.care.connect import Connection, connect
from backend.demo.data import DemoData, DemoImage, import_images
from backend.demo.stack import Stack, find_label_studio, start_label_studio, start_stack
from backend.errors import ProcessFailed
from backend.label_studio.client import Project
from backend.label_studio.labels import parse_label_config
from backend.project.config import ProjectConfig
from backend.project.folder import ProjectFolder, find_folder
from backend.settings import read_settings
from backend.system.processes import Processes, free_port
from model.geometry import mask_to_polygons
from model.records import Outline, Record

COLOURS = {"tomato": (215, 48, 39), "plum": (69, 60, 180)}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = read_settings({**os.environ, "REDIS_URL": ""})
    try:
        find_label_studio(settings)
    except ProcessFailed as err:
        pytest.skip(str(err))
    with Processes() as processes:
        yield start_stack(processes, settings, tmp_path_factory.mktemp("stack"))


def discs(count: int, seed: int = 3) -> DemoData:
    """Pictures of one to three discs in two colours, on white: what the fake engine can tell apart."""
    images = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        picture, outlines = np.full((240, 320, 3), 250, np.uint8), []
        for column in rng.permutation(3)[: rng.integers(1, 4)]:
            label = str(rng.choice(list(COLOURS)))
            mask = np.zeros((240, 320), np.uint8)
            centre = (60 + 100 * int(column), int(rng.integers(70, 170)))
            cv2.circle(mask, centre, int(rng.integers(22, 45)), 1, -1)
            picture[mask > 0] = np.clip(np.array(COLOURS[label]) + rng.integers(-25, 25, 3), 0, 255)
            outlines.append(Outline(label, mask_to_polygons(mask > 0)))
        content = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        images.append(DemoImage(f"disc_{index:03d}.png", content, Record(f"{index}", (240, 320), tuple(outlines))))
    return DemoData("discs", tuple(COLOURS), tuple(images))


@pytest.fixture(autouse=True)
def logs_of_a_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what the worker and the backend logged during a test that fails."""
    if "stack" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("stack").settings.data_dir.parent / "logs"
    before = {path: path.stat().st_size for path in folder.glob("*.log")}
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        for name in ("worker.log", "backend.log"):
            with (folder / name).open("rb") as file:
                file.seek(before.get(folder / name, 0))
                print(f"--- {name}", file.read().decode(errors="replace")[-8000:], sep="\n")


MadeProject = tuple[Project, ProjectFolder, dict[int, DemoImage]]


@pytest.fixture(scope="session")
def make_project(stack: Stack) -> Callable[..., MadeProject]:
    """Make a connected project of disc pictures for the fake engine, some of them annotated."""

    def make(
        title: str,
        count: int,
        annotated: int,
        before_connecting: Callable[[Project], object] = lambda project: None,
        label_config: str | None = None,
        **settings: object,
    ) -> MadeProject:
        data = discs(count)
        client = stack.client()
        project = client.create_project(title, label_config or data.label_config)
        labels = parse_label_config(project.label_config)
        tasks = dict(import_images(client, project.id, data.images, labels, annotated))
        chosen = {"engine": "fake", "train_iterations_base": 60, "learning_rate": 0.05, "mcd_iterations": 5}
        before_connecting(project)
        config = ProjectConfig.model_validate({**chosen, **settings})
        connect(stack.settings, Connection(project.id, stack.label_studio_url, stack.login.token, config=config))
        return client.project(project.id), find_folder(stack.settings.data_dir, project.id, project.uid), tasks

    return make


@pytest.fixture(scope="session")
def start_again(stack: Stack) -> Iterator[Callable[..., AbstractContextManager[Stack]]]:
    """Start a second Label Studio on the same database, with other variables in its environment."""

    @contextmanager
    def start(**environment: str) -> Iterator[Stack]:
        url = f"http://127.0.0.1:{free_port()}"
        folder = stack.settings.data_dir.parent
        executable = find_label_studio(stack.settings)
        with Processes() as processes:
            start_label_studio(processes, folder, url, stack.login, executable=executable, **environment)
            yield replace(stack, label_studio_url=url, settings=replace(stack.settings, label_studio_url=url))

    yield start


@pytest.fixture
def artefacts() -> Path:
    folder = Path(__file__).resolve().parents[1] / "artefacts"
    folder.mkdir(exist_ok=True)
    return folder
