"""Import, export and auto-annotate between other tools' files and the real Label Studio."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from backend.cli import main
from backend.demo.stack import Stack
from backend.errors import LabelStudioError
from backend.folders.importing import IMPORTED, SOURCE
from backend.label_studio.annotations import read_outlines
from backend.label_studio.client import LabelStudio, Project
from backend.label_studio.labels import parse_label_config
from model.formats.layout import written_path
from model.formats.table import FORMATS
from model.records import Outline, Polygon, Record
from tests.e2e.waiting import concluded, wait_for
from tests.model.formats.scenes import CLASSES, RECORDS, assert_same, box, read
from tests.shared import shared

pytestmark = pytest.mark.e2e


@pytest.fixture
def maskal(stack: Stack, tmp_path: Path) -> Callable[..., Result]:
    """The command, with Label Studio's address and key in its environment."""

    def call(*arguments: object, exit_code: int = 0) -> Result:
        environment = {
            "DATA_DIR": str(stack.settings.data_dir),
            "LABEL_STUDIO_URL": stack.label_studio_url,
            "LABEL_STUDIO_API_KEY": stack.login.token,
        }
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
        assert result.exit_code == exit_code, result.output
        return result

    return call


def written(export_format: str, folder: Path) -> Path:
    """The scenes in a format, with their images."""
    form = FORMATS[export_format]
    if form.is_one_file:
        form.write(RECORDS, folder, CLASSES)
    else:
        for record in RECORDS:
            form.write([record], folder, CLASSES)
    for number, record in enumerate(RECORDS):
        path = written_path(folder, form.image_path(record.image))
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*record.size_hw, 3), 40 * (number + 1), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return folder


def project_named(client: LabelStudio, title: str) -> Project:
    return client.project(client.projects_named(title)[0])


@pytest.mark.parametrize("export_format", FORMATS)
def test_what_is_imported_is_exported_again(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path, export_format: str
) -> None:
    """Every format in and out: images to the byte, objects with their parts, masks of IoU 0.98 or more."""
    title, source = f"from {export_format}", written(export_format, tmp_path / "source")
    arguments = ("import", source, "--from", export_format)
    assert "3 tasks made" in maskal(*arguments, "--create-project", title).output
    project = project_named(stack.client(), title)
    again = maskal(*arguments, "--project", project.id)
    assert "0 tasks made, 3 were there already" in again.output
    out = tmp_path / "out"
    told = maskal("export", "--to", export_format, "--project", project.id, "--out", out).output
    assert "2 images with 6 objects written" in told, "the third holds nothing and is still to be annotated"
    annotated = [record for record in read(export_format, source) if record.outlines]
    assert_same(read(export_format, out), annotated)
    for record in annotated:
        assert (out / record.image).read_bytes() == (source / record.image).read_bytes()
    refused = maskal("export", "--to", export_format, "--project", project.id, "--out", out, exit_code=1)
    assert f"maskal: {out} is not an empty folder; give another one with --out" in refused.output


def squares(folder: Path, *names: str, label: str = "leaf", shade: int = 90) -> Path:
    """LabelMe files of images with one square each; a number makes the images others."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, np.full((50, 60, 3), shade, np.uint8))[1].tobytes())
        square = Outline(label, (Polygon(box(5, 5, 30, 30)),))
        FORMATS["labelme"].write([Record(name, (50, 60), (square,))], folder, [label])
    return folder


def test_an_image_that_label_studio_does_not_take_stops_nothing(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = squares(tmp_path / "source", "a.png", "b.tif", "c.png")
    told = maskal("import", source, "--from", "labelme", "--create-project", "with a tiff").output
    assert "2 tasks made; 1 problem:" in told
    assert "b.tif is not taken by Label Studio" in told and "convert it to PNG or JPEG" in told


def test_other_images_of_the_same_name_are_imported_too_and_the_same_ones_are_not(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    first, second = squares(tmp_path / "monday", "0.png"), squares(tmp_path / "tuesday", "0.png", shade=200)
    maskal("import", first, "--from", "labelme", "--create-project", "two days")
    client = stack.client()
    project = project_named(client, "two days")
    assert "1 task made" in maskal("import", second, "--from", "labelme", "--project", project.id).output
    again = maskal("import", second, "--from", "labelme", "--project", project.id).output
    assert "0 tasks made, 1 were there already" in again
    out = tmp_path / "out"
    maskal("export", "--to", "labelme", "--project", project.id, "--out", out)
    assert len({path.read_bytes() for path in out.rglob("*.png")}) == 2, "neither takes the other's place"
    refused = maskal("import", first, "--from", "labelme", "--create-project", "two days", exit_code=1).output
    assert f"project {project.id} has the title 'two days' already; go on with --project {project.id}" in refused


@pytest.mark.parametrize("title", ["ab", "x" * 51])
def test_a_title_that_label_studio_does_not_take_is_told(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path, title: str
) -> None:
    source = squares(tmp_path / "source", "a.png")
    told = maskal("import", source, "--from", "labelme", "--create-project", title, exit_code=1).output
    assert f"a project's title has 3 to 50 characters, got '{title}'" in told
    with pytest.raises(LabelStudioError, match="title"):
        stack.client().create_project(title, "<View/>")


def test_images_whose_places_are_one_in_the_other_tool_are_told_apart(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = squares(tmp_path / "source", "a.png", "ds0/a.png", f"{'x' * 180}.png")
    maskal("import", source, "--from", "labelme", "--create-project", "one place")
    out = tmp_path / "out"
    project = project_named(stack.client(), "one place")
    assert (
        "3 images with 3 objects"
        in maskal("export", "--to", "supervisely", "--project", project.id, "--out", out).output
    )
    assert len(read("supervisely", out)) == len(list(out.rglob("*.png"))) == 3


def test_a_name_of_somebody_else_s_making_does_not_end_an_export(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = squares(tmp_path / "source", "a.png")
    maskal("import", source, "--from", "labelme", "--create-project", "odd names")
    client = stack.client()
    project = project_named(client, "odd names")
    (task,) = client.annotated_tasks(project.id)
    result = task.annotations[0]["result"]
    for name in ("/etc/x.png", "../x.png", " lead.png", "bell\a.png", ["a"]):
        client.import_tasks(project.id, [{"data": {**task.data, SOURCE: name}, "annotations": [{"result": result}]}])
    out = tmp_path / "out"
    told = maskal("export", "--to", "cvat", "--project", project.id, "--out", out).output
    assert "6 images with 6 objects" in told
    assert len(list(out.glob("*.png"))) == len(read("cvat", out)) == 6


def test_what_a_project_cannot_show_as_it_is_is_told(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = squares(tmp_path / "source", "a.png")
    config = '<View><Image name="i" value="$image"/><RectangleLabels name="l" toName="i"><Label value="leaf"/>'
    project = stack.client().create_project("boxes only", config + "</RectangleLabels></View>")
    told = maskal("import", source, "--from", "labelme", "--project", project.id).output
    assert "1 task made; 1 problem:" in told and "a.png: a 'leaf' becomes a box" in told


def test_nothing_is_made_where_no_image_is_there(stack: Stack, maskal: Callable[..., Result], tmp_path: Path) -> None:
    source = squares(tmp_path / "source", "a.png")
    (source / "a.png").unlink()
    told = maskal("import", source, "--from", "labelme", "--create-project", "no images", exit_code=1).output
    assert "holds no LabelMe JSON whose images are there" in told
    assert not stack.client().projects_named("no images")


def test_images_without_objects_can_be_taken_as_annotated(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = written("coco", tmp_path / "source")
    maskal("import", source, "--from", "coco", "--create-project", "with empty ones", "--empty-is-done")
    client = stack.client()
    tasks = list(client.annotated_tasks(project_named(client, "with empty ones").id))
    assert sorted(len(task.annotations[0]["result"]) == 0 for task in tasks) == [False, False, True]


def test_labels_that_the_project_lacks_are_named_and_nothing_is_made(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    client = stack.client()
    config = '<View><Image name="i" value="$photo"/><PolygonLabels name="l" toName="i"><Label value="Läsion"/>'
    project = client.create_project("lacks labels", config + "</PolygonLabels></View>")
    source = written("cvat", tmp_path / "source")
    told = maskal("import", source, "--from", "cvat", "--project", project.id, exit_code=1).output
    assert f"maskal: the labelling config of project {project.id} lacks" in told
    assert repr(CLASSES[0]) in told and repr(CLASSES[2]) in told and "'Läsion'" not in told
    assert not list(client.tasks(project.id))


def test_names_of_other_tools_become_labels_by_predicted_values(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    client = stack.client()
    head = '<View><Image name="i" value="$photo"/><PolygonLabels name="l" toName="i">'
    config = f'{head}<Label value="all" predicted_values="{CLASSES[0]},x"/><Label value="Läsion"/>'
    project = client.create_project("predicted values", config + "</PolygonLabels></View>")
    form = FORMATS["darwin"]
    record = Record("a.png", (100, 120), tuple(o for o in RECORDS[0].outlines if o.label == "Läsion"))
    form.write([record], tmp_path, CLASSES)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 120, 3), np.uint8))
    maskal("import", tmp_path, "--from", "darwin", "--project", project.id)
    (task,) = client.annotated_tasks(project.id)
    assert task.data["photo"].startswith("/data/upload/") and task.data[SOURCE] == "a.png"
    outlines, problems = read_outlines(task.annotations[0], parse_label_config(project.label_config), (100, 120))
    assert not problems
    assert_same([Record("a.png", (100, 120), outlines)], [record])


def test_predictions_are_imported_as_predictions(stack: Stack, maskal: Callable[..., Result], tmp_path: Path) -> None:
    source = written("labelme", tmp_path / "source")
    maskal("import", source, "--from", "labelme", "--create-project", "as predictions", "--as-predictions")
    client = stack.client()
    project = project_named(client, "as predictions")
    assert client.model_versions(project.id) == {IMPORTED: 3}
    assert not list(client.annotated_tasks(project.id))
    assert sum(bool(client.predictions(task.id)[0]["result"]) for task in client.tasks(project.id)) == 2


def test_images_that_are_missing_broken_or_others_are_told_and_embedded_ones_used(
    stack: Stack, maskal: Callable[..., Result], tmp_path: Path
) -> None:
    source = written("labelme", tmp_path / "source")
    image = source / RECORDS[0].image
    path = image.with_suffix(".json")
    content = json.loads(path.read_text()) | {"imageData": base64.b64encode(image.read_bytes()).decode()}
    path.write_text(json.dumps(content))
    image.unlink()
    (source / "b.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((91, 121, 3), np.uint8))[1].tobytes())
    (source / "empty.png").unlink()
    (source / "broken.json").write_text("{")
    told = maskal("import", source, "--from", "labelme", "--create-project", "bad images").output
    assert "1 task made; 3 problems:" in told
    assert "b.jpg is 121 x 91 px, its annotations are for 121 x 90" in told
    assert "empty.png cannot be read (No such file or directory); give the folder of the images" in told
    assert "broken.json" in told
    client = stack.client()
    (task,) = client.tasks(project_named(client, "bad images").id)
    assert task.data[SOURCE] == RECORDS[0].image


SAMPLES = {
    "coco": "coco_instances_made_with_datumaro_cvat-ai_fork",
    "cvat": "cvat_made_with_datumaro_openvino_1.13.12",
    "labelme": "labelme_made_with_labelme_5.4.1",
    "labelme_xml": "label_me_made_with_datumaro_cvat-ai_fork",
    "supervisely": "supervisely_made_with_sdk_6.74.51",
}


@pytest.mark.parametrize("tool", SAMPLES)
def test_files_that_the_tools_wrote_are_imported(stack: Stack, maskal: Callable[..., Result], tool: str) -> None:
    source = shared("data", "formats", SAMPLES[tool])
    crowds = ["--iscrowd-masks"] if tool == "coco" else []
    told = maskal("import", source, "--from", tool, "--create-project", f"sample of {tool}", *crowds).output
    assert "3 tasks made" in told and "problems" not in told
    project = project_named(stack.client(), f"sample of {tool}")
    config = parse_label_config(project.label_config)
    sizes = {r.image: r.size_hw for r in FORMATS[tool].read(source, lambda line: None)}
    for task in stack.client().annotated_tasks(project.id):
        outlines, problems = read_outlines(task.annotations[0], config, sizes[task.data[SOURCE]])
        assert outlines and not problems


def test_the_served_predictions_are_exported_and_a_folder_is_outlined_the_same_way(
    stack: Stack, maskal: Callable[..., Result], make_project, tmp_path: Path
) -> None:
    project, folder, _ = make_project("exported predictions", 9, 5, initial_datasize=5)
    wait_for(lambda: concluded(folder, 1), "the first version")
    out = tmp_path / "out"
    told = maskal("export", "--to", "coco", "--project", project.id, "--out", out, "--predictions").output
    predicted = read("coco", out)
    assert len(predicted) == 4 and "4 images" in told
    assert all(outline.score is not None for record in predicted for outline in record.outlines)
    annotations = out / "annotations.json"
    annotations.unlink()
    maskal("auto-annotate", "--img-dir", out, "--project", project.id, "--export-format", "coco", "--device", "cpu")
    outlined = {record.image: record for record in read("coco", out)}
    for record in predicted:
        assert_same([outlined[record.image]], [record])


def test_auto_annotated_tasks_are_taken_by_label_studio_with_their_predictions(
    stack: Stack, maskal: Callable[..., Result], make_project, tmp_path: Path
) -> None:
    project, folder, _ = make_project("outlined for label studio", 8, 5, initial_datasize=5)
    wait_for(lambda: concluded(folder, 1), "the first version")
    out = tmp_path / "photos"
    maskal("export", "--to", "labelme", "--project", project.id, "--out", out)
    arguments = ("--img-dir", out, "--project", project.id, "--version", "maskal-r1", "--device", "cpu")
    maskal("auto-annotate", *arguments, "--export-format", "labelstudio")
    client = stack.client()
    made = client.create_project("taken", (out / "labelstudio_config.xml").read_text())
    tasks = json.loads((out / "labelstudio.json").read_text())
    client.import_tasks(made.id, tasks)
    assert client.model_versions(made.id) == {"maskal-r1": 5}
    assert all(task.data["image"].startswith("/data/local-files/?d=photos/") for task in client.tasks(made.id))
