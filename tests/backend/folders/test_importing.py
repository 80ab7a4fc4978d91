"""What `maskal import` makes of files as people have them; with the real Label Studio: tests/e2e/test_formats.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from backend.errors import BadLabelConfig, BadSetting, LabelStudioError
from backend.folders import importing
from backend.folders.importing import IMPORTED, Imported, ImportOptions, import_records
from backend.label_studio.client import Project, Task
from backend.settings import Settings

SQUARE = [[5, 5, 30, 5, 30, 30, 5, 30]]
OUTSIDE = [[200, 200, 230, 200, 230, 230]]
SIZE = {"height": 50, "width": 60}


@dataclass
class Server:
    """As much of Label Studio as an import calls."""

    made: list[dict[str, Any]] = field(default_factory=list)
    label_config: str = ""
    refused: set[str] = field(default_factory=set)
    calls: list[list[str]] = field(default_factory=list)

    def projects_named(self, title: str) -> list[int]:
        return []

    def create_project(self, title: str, label_config: str) -> Project:
        self.label_config = label_config
        return Project(1, "1.1", title, label_config, "", (0, 0, 0, 0))

    def tasks(self, project_id: int) -> Iterator[Task]:
        return iter(())

    def project(self, project_id: int) -> Project:
        return Project(project_id, "1.1", "leaves", self.label_config, "", (0, 0, 0, 0))

    def upload_images(self, project_id: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        self.calls.append([name for name, _ in images])
        if self.refused & {name for name, _ in images}:
            raise LabelStudioError("Label Studio answered 400: no")
        return [f"/data/upload/1/{name}" for name, _ in images]

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        json.dumps(tasks, allow_nan=False)
        self.made += tasks
        return list(range(len(tasks)))

    def task(self, name: str) -> dict[str, Any]:
        (found,) = (task for task in self.made if task["data"]["imported_from"] == name)
        return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(importing, "open_client", lambda *_: made)
    return made


@pytest.fixture
def run(tmp_path: Path, server: Server) -> Callable[..., Imported]:
    """Import COCO annotations of photos named a.png, b.png, ..., the given ones of each."""

    def imported(*annotations: Sequence[dict[str, Any]], categories: Any = None, **options: Any) -> Imported:
        images, rows = [], []
        for number, own in enumerate(annotations):
            name = f"{'abcdefgh'[number]}.png"
            if not (tmp_path / name).exists():
                cv2.imwrite(str(tmp_path / name), np.full((50, 60, 3), 90, np.uint8))
            images.append({"id": number, "file_name": name, **SIZE})
            rows += [{"id": 10 * number + i, "image_id": number, "category_id": 1, **row} for i, row in enumerate(own)]
        content = {"images": images, "annotations": rows, "categories": categories or [{"id": 1, "name": "leaf"}]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        wanted = ImportOptions("coco", tmp_path / "annotations.json", create_project="leaves")
        return import_records(Settings(data_dir=tmp_path / "data"), replace(wanted, **options))

    return imported


LOST = {
    "a box only": {"bbox": [1, 2, 3, 4], "segmentation": []},
    "too few points": {"segmentation": [[2, 2, 10, 2]]},
    "a crowd": {"segmentation": SQUARE, "iscrowd": 1},
    "outside": {"segmentation": OUTSIDE},
    "another category": {"segmentation": SQUARE, "category_id": 9},
    "no segmentation": {},
    "far away": {"segmentation": [[2, 2, 1e308, 2, 10, 10]]},
    "no number": {"segmentation": [[2, 2, float("nan"), 2, 10, 10]]},
}


@pytest.mark.parametrize("lost", LOST)
def test_an_image_whose_objects_cannot_be_read_is_never_done(
    run: Callable[..., Imported], server: Server, lost: str
) -> None:
    done = run([{"segmentation": SQUARE}], [LOST[lost]], [], empty_is_done=True)
    assert done.made == 3
    assert server.task("a.png")["annotations"] and server.task("c.png")["annotations"] == [{"result": []}]
    assert set(server.task("b.png")) == {"data"}, "neither annotated nor pre-labelled"
    assert "b.png: not all of its annotation can be read; it is still to be annotated" in done.problems
    assert len(done.problems) == 2, "what is lost, and what became of its image"


@pytest.mark.parametrize("lost", LOST)
def test_a_partly_read_image_is_a_prediction_to_be_corrected(
    run: Callable[..., Imported], server: Server, lost: str
) -> None:
    done = run([{"segmentation": SQUARE}, LOST[lost]])
    task = server.task("a.png")
    assert "annotations" not in task
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == IMPORTED and len(prediction["result"]) == 1
    assert "a.png: not all of its annotation can be read; what can is a prediction to be corrected" in done.problems


def test_an_object_outside_of_its_image_is_told_and_one_across_its_border_is_kept(
    run: Callable[..., Imported], server: Server
) -> None:
    done = run(
        [{"segmentation": OUTSIDE}, {"segmentation": SQUARE}], [{"segmentation": [[50, 5, 90, 5, 90, 40, 50, 40]]}]
    )
    lies = "x 200..230, y 200..230 lies outside of its image of 60 x 50 px"
    assert any("annotation 0" in line and lies in line for line in done.problems)
    assert len(server.task("a.png")["predictions"][0]["result"]) == 1
    assert len(server.task("b.png")["annotations"][0]["result"]) == 1
    percent = [
        x
        for task in server.made
        for key in ("annotations", "predictions")
        for rows in task.get(key, [])
        for r in rows["result"]
        for point in r["value"]["points"]
        for x in point
    ]
    assert max(percent) <= 150


def test_a_part_outside_of_the_image_is_left_out_and_the_others_are_kept(
    run: Callable[..., Imported], server: Server
) -> None:
    done = run([{"segmentation": [*SQUARE, *OUTSIDE]}])
    assert len(server.task("a.png")["predictions"][0]["result"]) == 1
    assert "lies outside of its image" in done.problems[0]


@pytest.mark.parametrize("name", [None, "", "  ", True, ["leaf"]])
def test_a_category_without_a_name_is_refused(run: Callable[..., Imported], name: object) -> None:
    with pytest.raises(BadSetting, match=r"categories: category 1 has the name .*, wanted a text; name it in the file"):
        run([{"segmentation": SQUARE}], categories=[{"id": 1, "name": name}])


@pytest.mark.parametrize(("name", "label"), [("leaf ", "leaf"), ("\tleaf\n", "leaf"), (7, "7"), (" a b ", "a b")])
def test_blanks_around_a_category_do_not_make_a_label_of_its_own(
    run: Callable[..., Imported], server: Server, name: object, label: str
) -> None:
    run([{"segmentation": SQUARE}], categories=[{"id": 1, "name": name}])
    assert server.task("a.png")["annotations"][0]["result"][0]["value"]["polygonlabels"] == [label]
    assert f'value="{label}"' in server.label_config


def test_every_bad_image_is_one_line_and_the_rest_is_imported(
    run: Callable[..., Imported], server: Server, tmp_path: Path
) -> None:
    Image.new("RGB", (60, 50)).save(tmp_path / "a.png", "AVIF")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-20:] = bytes(20)
    (tmp_path / "a.png").write_bytes(content[:-4])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").symlink_to(tmp_path / "nowhere" / "d.png")
    cv2.imwrite(str(tmp_path / "e.png"), np.zeros((60, 50, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "f.tif"), np.zeros((50, 60), np.float32))
    (tmp_path / "f.tif").rename(tmp_path / "f.png")
    done = run(*[[{"segmentation": SQUARE}]] * 7)
    assert done.made == 1 and server.task("g.png")
    wanted = [
        "a.png cannot be read (",
        "b.png cannot be read (it is empty); replace the file",
        "c.png cannot be read (Is a directory)",
        "d.png cannot be read (No such file or directory)",
        "e.png is 50 x 60 px, its annotations are for 60 x 50 (width and height swapped)",
        "f.png holds float32 pixels",
    ]
    assert [text in line for text, line in zip(wanted, done.problems, strict=True)] == [True] * 6, done.problems


def test_a_set_of_12_bits_in_16_is_told_once(run: Callable[..., Imported], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((50, 60), 4000, np.uint16))
    (line,) = run([{"segmentation": SQUARE}], [{"segmentation": SQUARE}]).problems
    assert "all images of 16 bits here (2) stay under 4096" in line


def rewritten(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> ImportOptions:
    path = tmp_path / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return ImportOptions("coco", path, create_project="leaves", empty_is_done=True)


def test_two_images_of_one_name_are_never_done(run: Callable[..., Imported], server: Server, tmp_path: Path) -> None:
    """As exports of several videos have them (open-edge-platform/geti, issue 7496): the frames are not told apart."""

    def collide(content: dict[str, Any]) -> None:
        content["images"][1]["file_name"] = content["images"][0]["file_name"]

    run([{"segmentation": SQUARE}], [{"segmentation": SQUARE}], [{"segmentation": SQUARE}])
    server.made.clear()
    done = import_records(Settings(data_dir=tmp_path / "data"), rewritten(tmp_path, collide))
    assert set(server.task("a.png")) == {"data", "predictions"} and "annotations" in server.task("c.png")
    assert "a.png is annotated twice; the first one counts, delete one" in done.problems


def test_ids_count_from_zero_or_are_texts(run: Callable[..., Imported], server: Server) -> None:
    """FiftyOne and supervision count categories from 0, which datumaro takes for none (its issue 156)."""
    run([{"segmentation": SQUARE, "category_id": 0}], categories=[{"id": 0, "name": "leaf"}], empty_is_done=True)
    assert len(server.task("a.png")["annotations"][0]["result"]) == 1
    server.made.clear()
    done = run([{"segmentation": SQUARE, "image_id": "0"}], [], empty_is_done=True)
    assert len(server.task("a.png")["annotations"][0]["result"]) == 1 and not done.problems
    assert server.task("b.png")["annotations"] == [{"result": []}]


def test_where_no_object_can_be_read_a_new_project_says_why(run: Callable[..., Imported]) -> None:
    with pytest.raises(
        BadSetting, match=r"holds no object that can be read \(.*annotation 0: it has no outline .*\), so"
    ):
        run([LOST["a box only"]])
    with pytest.raises(BadSetting, match=r"annotations\.json holds no object, so no label for a new project"):
        run([])


READERS = {
    "labelme": {"shapes": [], "imagePath": "a.png", "imageHeight": 50, "imageWidth": 60},
    "darwin": {"version": "2.0", "item": {"name": "a.png", "slots": [SIZE]}, "annotations": []},
    "supervisely": {"size": SIZE, "objects": []},
}


def of_tool(tool: str, points: list[list[float]]) -> dict[str, Any]:
    """A file of the tool with one polygon."""
    if tool == "labelme":
        return READERS[tool] | {"shapes": [{"label": "leaf", "points": points, "shape_type": "polygon"}]}
    if tool == "darwin":
        path = [{"x": x, "y": y} for x, y in points]
        return READERS[tool] | {"annotations": [{"name": "leaf", "polygon": {"paths": [path]}}]}
    shape = {"classTitle": "leaf", "geometryType": "polygon", "points": {"exterior": points, "interior": []}}
    return READERS[tool] | {"objects": [shape]}


@pytest.mark.parametrize(
    "points", [[[200, 200], [230, 200], [230, 230]], [[1, 1], [2, 2]], [[1, 1], [1e308, 1], [9, 9]]]
)
@pytest.mark.parametrize("tool", READERS)
def test_an_empty_rest_is_not_done_in_any_format(
    server: Server, tmp_path: Path, tool: str, points: list[list[float]]
) -> None:
    source = tmp_path / "source"
    folder, name = (source / "ds" / "ann", "a.png.json") if tool == "supervisely" else (source, "a.json")
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(of_tool(tool, points)))
    image = source / "ds" / "img" / "a.png" if tool == "supervisely" else source / "a.png"
    image.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(image), np.zeros((50, 60, 3), np.uint8))
    (source / "b").mkdir()
    square = [[5.0, 5.0], [30.0, 5.0], [30.0, 30.0]]
    other = source / "ds" / "ann" / "b.png.json" if tool == "supervisely" else source / "b.json"
    other.write_text(json.dumps(of_tool(tool, square)).replace("a.png", "b.png"))
    cv2.imwrite(str(image.with_name("b.png")), np.zeros((50, 60, 3), np.uint8))
    wanted = ImportOptions(tool, source, create_project="leaves", empty_is_done=True)
    done = import_records(Settings(data_dir=tmp_path / "data"), wanted)
    first, second = sorted(server.made, key=lambda task: task["data"]["imported_from"])
    assert set(first) == {"data"} and second["annotations"][0]["result"]
    assert len(done.problems) == 2


def test_images_go_in_one_call_and_a_refused_one_is_halved_until_the_file_is_named(
    run: Callable[..., Imported], server: Server
) -> None:
    server.refused = {"c.png"}
    done = run(*[[{"segmentation": SQUARE}]] * 5)
    assert done.made == 4 and len(server.made) == 4
    calls = ["".join(name.removesuffix(".png") for name in call) for call in server.calls]
    assert calls == ["abcde", "ab", "cde", "c", "de"]
    assert done.problems == ("c.png is not taken by Label Studio (Label Studio answered 400: no)",)


def test_a_call_carries_so_many_files_and_bytes_at_most(
    run: Callable[..., Imported], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "UPLOAD_FILES", 2)
    assert run(*[[{"segmentation": SQUARE}]] * 5).made == 5
    assert [len(call) for call in server.calls] == [2, 2, 1]
    server.calls.clear()
    monkeypatch.setattr(importing, "UPLOAD_BYTES", 1)
    assert run(*[[{"segmentation": SQUARE}]] * 3).made == 3
    assert [len(call) for call in server.calls] == [1, 1, 1]


def test_addresses_instead_of_uploads(run: Callable[..., Imported], server: Server) -> None:
    done = run([{"segmentation": SQUARE}], image_root_url="https://photos.example/set one/".replace(" ", "%20"))
    assert done.made == 1 and not server.calls
    assert server.task("a.png")["data"]["image"] == "https://photos.example/set%20one/a.png"
    run([{"segmentation": SQUARE}], [], image_root_url="s3://photos")
    assert server.task("b.png")["data"]["image"] == "s3://photos/b.png"


def test_a_project_that_shows_more_than_the_image_is_refused_once(run: Callable[..., Imported], server: Server) -> None:
    server.label_config = (
        '<View><Image name="i" value="$image"/><Text name="t" value="$note"/><PolygonLabels name="l" toName="i">'
        '<Label value="leaf"/></PolygonLabels></View>'
    )
    with pytest.raises(BadSetting, match=r"shows \$image and \$note, and an import has only images"):
        run([{"segmentation": SQUARE}], create_project=None, project_id=1)
    assert not server.calls and not server.made


def test_a_label_in_other_letters_is_named_with_what_takes_it(run: Callable[..., Imported], server: Server) -> None:
    head = '<View><Image name="i" value="$image"/><PolygonLabels name="l" toName="i">'
    server.label_config = f'{head}<Label value="Leaf"/></PolygonLabels></View>'
    with pytest.raises(
        BadLabelConfig, match=r"lacks 'leaf' \(predicted_values='leaf' at its label 'Leaf' takes 'leaf'\); add"
    ):
        run([{"segmentation": SQUARE}], create_project=None, project_id=1)
    server.label_config = server.label_config.replace("/></P", " predicted_values='leaf'/></P")
    run([{"segmentation": SQUARE}], create_project=None, project_id=1)
    assert server.task("a.png")["annotations"][0]["result"][0]["value"]["polygonlabels"] == ["Leaf"]


def test_labels_that_differ_in_letters_only_are_told_with_a_new_project(
    run: Callable[..., Imported], server: Server
) -> None:
    """Two annotators' spellings (https://github.com/persts/BBoxEE/pull/13) would be learned as two classes."""
    names = ("Red Deer", "red deer", "stem")
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    drawn = [{"segmentation": SQUARE, "category_id": number} for number in range(3)]
    (problem,) = run(drawn, categories=categories).problems
    assert problem.startswith(
        "the labels 'Red Deer' and 'red deer' differ in letters only and are classes of their own"
    )
    assert len(server.task("a.png")["annotations"][0]["result"]) == 3
    assert run(drawn, categories=categories, create_project=None, project_id=1).problems == ()
