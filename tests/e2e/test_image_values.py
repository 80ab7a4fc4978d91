"""Images that stand deeper in a task's data, as the real Label Studio takes the tasks and its editor shows them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from backend.care.connect import Connection, connect
from backend.demo.data import true_regions
from backend.demo.stack import Stack
from backend.errors import BadLabelConfig
from backend.folders.exporting import ExportOptions, export_records
from backend.label_studio.client import Task
from backend.label_studio.images import Images
from backend.label_studio.labels import parse_label_config
from tests.e2e.browser import logged_in
from tests.e2e.conftest import discs

pytestmark = pytest.mark.e2e

CONFIG = discs(1).label_config
VALUES = ("$photo.url", "$images[0]", "$rows[1].photo.url", "{}$name")


def config_with(value: str) -> str:
    return CONFIG.replace('value="$image"', value)


def task_for(stack: Stack, value: str) -> tuple[int, str, Task]:
    """A project with one task whose image stands where the value says: its id, its labelling config, the task."""
    client = stack.client()
    home = client.create_project("uploads", CONFIG)
    address = client.upload_image(home.id, "a.png", discs(1).images[0].content)
    config = config_with(f'value="{value.format(address.removesuffix("a.png"))}"')
    project = client.create_project("deeper", config)
    client.import_tasks(project.id, [{"data": parse_label_config(config).image_value.data_with(address)}])
    (task,) = client.tasks(project.id)
    return project.id, config, task


@pytest.mark.parametrize("value", VALUES)
def test_the_image_is_found_where_the_value_says(stack: Stack, tmp_path, value: str) -> None:
    project_id, config, task = task_for(stack, value)
    images = Images(stack.client(), replace(stack.settings, data_dir=tmp_path), None, project_id)
    found = parse_label_config(config).image_value.of(task.data)
    assert images.load(found, task.id).shape == (240, 320, 3)


def test_connect_refuses_what_it_could_not_learn_from_before_anybody_annotates(stack: Stack) -> None:
    project = stack.client().create_project("pages", config_with('valueList="$photos"'))
    with pytest.raises(BadLabelConfig, match="the Image 'image' has a valueList"):
        connect(stack.settings, Connection(project.id))
    assert stack.client().backends(project.id) == []


def test_an_image_within_the_data_is_learned_from_and_exported(stack: Stack, tmp_path) -> None:
    client, image = stack.client(), discs(1).images[0]
    project = client.create_project("embedded", CONFIG)
    labels = parse_label_config(CONFIG)
    uri = f"data:image/png;base64,{b64encode(image.content).decode()}"
    (task,) = client.import_tasks(project.id, [{"data": {"image": uri}}])
    client.annotate(task, true_regions(image, labels))
    done = export_records(stack.settings, ExportOptions("coco", project.id, tmp_path / "out"))
    assert (done.images, done.problems) == (1, [])
    assert (tmp_path / "out" / f"{task}.png").read_bytes() == image.content


@pytest.mark.slow  # a page of the editor for each value
def test_the_editor_shows_the_same_image(stack: Stack) -> None:
    with logged_in(stack) as page:
        for value in VALUES:
            project_id, config, task = task_for(stack, value)
            page.goto(f"{stack.label_studio_url}/projects/{project_id}/data?task={task.id}")
            page.locator("canvas").first.wait_for(timeout=60_000)
            page.wait_for_function("() => document.querySelector('img[alt=image]')?.naturalWidth === 320")
            found = parse_label_config(config).image_value.of(task.data)
            assert page.evaluate("Htx.annotationStore.selected.names.get('image').parsedValue") == found
