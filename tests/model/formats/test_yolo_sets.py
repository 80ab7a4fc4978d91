"""Where images, labels and the names of classes lie in sets of many makers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.formats import yolo_layout
from model.formats.table import FORMATS
from tests.model.formats.yolo_folders import NAMES, SQUARE, flat, told, write

ULTRALYTICS: dict[str, str | bytes] = {
    "images/train/a.jpg": "",
    "images/val/b.png": "",
    "labels/train/a.txt": f"0 {SQUARE}\n",
    "labels/val/b.txt": f"1 {SQUARE}\n",
}
ROBOFLOW: dict[str, str | bytes] = {
    "train/images/a.jpg": "",
    "valid/images/b.png": "",
    "train/labels/a.txt": f"0 {SQUARE}\n",
    "valid/labels/b.txt": f"1 {SQUARE}\n",
    "README.dataset.txt": "https://universe",
}


@pytest.mark.parametrize(
    "data",
    [
        "train: images/train\nval: images/val\n",
        "path: .\ntrain: ./images/train/\nval: images/val\ntest:\n",
        "path: ../datasets/mine\ntrain: images/train\nval: images/val\n",
        "path: C:/Users/me/mine\ntrain: C:\\Users\\me\\mine\\images\\train\nval: /content/drive/mine/images/val\n",
        "train: [images/train, images/val]\nval: images/val\n",
        "train: images\nval: images\n",
        "train: .\n",
        "train: train.txt\nval: lists/val.txt\n",
        "train:\n",
        "",
    ],
    ids=[
        "folders",
        "path",
        "path elsewhere",
        "other machines",
        "list",
        "both",
        "root",
        "texts",
        "no splits",
        "names only",
    ],
)
@pytest.mark.parametrize("as_file", [True, False], ids=["data.yaml", "folder"])
def test_a_data_yaml_leads_to_images_and_labels(tmp_path: Path, data: str, as_file: bool) -> None:
    lists: dict[str, str | bytes] = {
        "train.txt": "./images/train/a.jpg\r\n",
        "lists/val.txt": "\ufeffD:\\mine\\images\\val\\b.png\n\n",
    }
    files = {**ULTRALYTICS, **(lists if "txt" in data else {}), "data.yaml": data + NAMES}
    folder = write(tmp_path, files)
    labels, problems = told(folder / "data.yaml" if as_file else folder)
    assert labels == {"images/train/a.jpg": ["leaf"], "images/val/b.png": ["stem"]}
    assert problems == []


@pytest.mark.parametrize("prefix", ["../", "", "Tennis-9/"])
def test_roboflows_folders_are_found_wherever_its_paths_lead(tmp_path: Path, prefix: str) -> None:
    """https://github.com/roboflow/roboflow-python/issues/240: data.yaml in Tennis-9 names Tennis-9/train/images."""
    data = f"train: {prefix}train/images\nval: {prefix}valid/images\ntest: {prefix}test/images\nnc: 2\n"
    labels, problems = told(write(tmp_path / "Tennis-9", {**ROBOFLOW, "data.yaml": data + NAMES}))
    assert labels == {"train/images/a.jpg": ["leaf"], "valid/images/b.png": ["stem"]}
    wanted = f"test: wanted a folder of images or a list of them in {tmp_path / 'Tennis-9'}"
    assert problems == [f"data.yaml: {wanted}, got '{prefix}test/images'; correct it"]


def test_only_the_images_of_the_splits_are_read_each_once(tmp_path: Path) -> None:
    data = "train: images/train\nval: images/train\n" + NAMES
    assert told(write(tmp_path, {**ULTRALYTICS, "data.yaml": data}))[0] == {"images/train/a.jpg": ["leaf"]}


def test_cvats_list_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    files = {**ULTRALYTICS, "train.txt": "data/images/train/a.jpg\ndata/images/train/c.jpg\n"}
    labels, problems = told(write(tmp_path, {**files, "data.yaml": "path: .\ntrain: train.txt\n" + NAMES}))
    assert labels == {"images/train/a.jpg": ["leaf"]}
    assert len(problems) == 1 and "1 images have no label file and are left out" in problems[0]


@pytest.mark.parametrize(
    "names",
    [
        "names: [leaf, stem]",
        "names:\n- leaf\n- stem",
        "names: {0: leaf, 1: stem}",
        "names:\n  1: ' stem '\n  0: leaf",
        "names: {'0': leaf, '1': stem}",
    ],
)
def test_names_are_a_list_or_numbered(tmp_path: Path, names: str) -> None:
    assert told(flat(tmp_path, f"1 {SQUARE}\n0 {SQUARE}", names)) == ({"a.jpg": ["stem", "leaf"]}, [])


def test_names_stay_the_text_that_they_are(tmp_path: Path) -> None:
    names = "names: [no, 007, 1.50, on, 'null', 2024-01-01]"
    lines = "\n".join(f"{number} {SQUARE}" for number in range(6))
    assert told(flat(tmp_path, lines, names)) == ({"a.jpg": ["no", "007", "1.50", "on", "null", "2024-01-01"]}, [])


def test_a_name_may_stand_for_another_place(tmp_path: Path) -> None:
    names = "names: [&leaf leaf, *leaf]"
    assert told(flat(tmp_path, f"1 {SQUARE}", names)) == ({"a.jpg": ["leaf"]}, [])


@pytest.mark.parametrize("name", ["", "null", "~", "' '", "''"])
def test_a_class_without_a_name_is_none(tmp_path: Path, name: str) -> None:
    labels, problems = told(flat(tmp_path, f"1 {SQUARE}\n0 {SQUARE}", f"names:\n  0: leaf\n  1: {name}\n"))
    assert labels == {"a.jpg": ["leaf"]}
    assert len(problems) == 1 and "a.txt: line 1: class 1 has no name" in problems[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("names: leaf", "wanted the names of the classes as a list or numbered in .*data.yaml, got 'leaf'"),
        ("nc: 2", "got None"),
        ("names: [[leaf]]", "wanted a number and a name for each class in .*data.yaml"),
        ("names: {leaf: 0}", "wanted a number and a name for each class"),
        ("names:\n  0: leaf\n  '0': stem\n", "wanted YAML in .*data.yaml.*'0' stands there twice.*; correct it"),
        ("names: [leaf]\ntrain: a\ntrain: b\n", "'train' stands there twice.*line 3"),
        ("names: [leaf\n", "wanted YAML in .*data.yaml, got something else"),
        ("names: [leaf]\nkpt_shape: [17, 3]", "is of a pose data set"),
        ("- leaf", "wanted 'names', 'train' and 'val' in .*data.yaml, got other YAML"),
        ("x: &x [*x]", "wanted YAML in"),
        ("a: &a [a, a]\nb: &b [*a, *a]\ntrain: [[*b, *b]]\nnames: [leaf]", r"\*a is a list; write it out.*line 2"),
        (b"names: [L\xe4sion]", "wanted text in UTF-8 in .*data.yaml.*save it as UTF-8"),
    ],
)
def test_a_broken_data_yaml_is_one_line(tmp_path: Path, data: str | bytes, reason: str) -> None:
    labels, problems = told(write(tmp_path, {"a.jpg": "", "a.txt": f"0 {SQUARE}", "data.yaml": data}))
    assert labels == {} and len(problems) == 1
    assert re.search(reason, problems[0]) and "\n" not in problems[0]


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "dataset.yaml", "leaves.YML"])
def test_classes_stand_in_one_of_many_files(tmp_path: Path, name: str) -> None:
    content = "\ufeffleaf\r\nstem\r\n\r\n" if name.startswith(("c", "o")) else NAMES
    files = {"a.jpg": "", "a.txt": f"1 {SQUARE}", name: content, "docker-compose.yaml": "services: {}"}
    assert told(write(tmp_path, files)) == ({"a.jpg": ["stem"]}, [])


def test_classes_that_are_nowhere_are_asked_for(tmp_path: Path) -> None:
    labels, problems = told(write(tmp_path, {"a.jpg": "", "a.txt": f"0 {SQUARE}"}))
    assert labels == {}
    wanted = "wanted the names of the classes in data.yaml or classes.txt, found neither"
    assert len(problems) == 1 and wanted in problems[0]


def test_classes_that_two_files_tell_otherwise_are_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, {"a.jpg": "", "a.txt": f"0 {SQUARE}", "one.yaml": NAMES, "two.yaml": "names: [stem, leaf]"})
    labels, problems = told(tmp_path)
    assert labels == {} and len(problems) == 1 and "one.yaml and two.yaml name other classes" in problems[0]
    assert told(tmp_path / "two.yaml")[0] == {"a.jpg": ["stem"]}


def test_a_data_yaml_counts_before_a_classes_txt(tmp_path: Path) -> None:
    labels, problems = told(write(flat(tmp_path, f"0 {SQUARE}"), {"classes.txt": "dog\nperson\n"}))
    assert labels == {"a.jpg": ["leaf"]}
    assert problems == ["classes.txt: names other classes than data.yaml, which counts"]
    assert told(write(tmp_path, {"classes.txt": "leaf\nstem\n"})) == ({"a.jpg": ["leaf"]}, [])


@pytest.mark.parametrize("source", ["labels", "labels/train", "labels/train/a.txt"])
def test_a_part_of_a_set_is_read_with_the_classes_above_it(tmp_path: Path, source: str) -> None:
    write(tmp_path, {**ULTRALYTICS, "classes.txt": "leaf\nstem\n"})
    labels, problems = told(tmp_path / source)
    assert labels["images/train/a.jpg"] == ["leaf"] and problems == []
    assert len(labels) == (2 if source == "labels" else 1)


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    files = {"labels/train/a.txt": f"0 {SQUARE}", "labels/0a1b2c3d-b.txt": "", "data.yaml": NAMES}
    labels = write(tmp_path / "set", {**files})
    images = write(tmp_path / "photos", {"train/a.PNG": "", "b.jpg": ""})
    assert told(labels, images) == ({"train/a.PNG": ["leaf"], "b.jpg": []}, [])
    missing, problems = told(labels)
    assert missing == {} and len(problems) == 2
    assert all("give the folder of the images: --images" in problem for problem in problems)


def test_a_data_yaml_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ULTRALYTICS)
    for path in (folder, "../set"):
        write(tmp_path / "code", {"leaves.yaml": f"path: {path}\ntrain: images/train\n" + NAMES})
        labels, problems = told(tmp_path / "code" / "leaves.yaml")
        assert labels == {"images/train/a.jpg": ["leaf"]} and problems == []
    root = FORMATS["yolo"].root(tmp_path / "code" / "leaves.yaml")
    assert (root / "images/train/a.jpg").is_file()


def test_two_images_of_one_label_file_are_named(tmp_path: Path) -> None:
    labels, problems = told(write(flat(tmp_path, f"0 {SQUARE}"), {"a.png": ""}))
    assert labels == {} and len(problems) == 1
    assert "a.txt: its image 'a' may be a.jpg or a.png" in problems[0]


def test_labels_belong_to_the_image_whose_name_only_the_ending_is_added_to(tmp_path: Path) -> None:
    files = {"images/a.png.jpg": "", "labels/a.png.txt": f"1 {SQUARE}", "data.yaml": NAMES}
    assert told(write(tmp_path, files)) == ({"images/a.png.jpg": ["stem"]}, [])
    write(tmp_path, {"images/a.png": "", "labels/a.txt": f"0 {SQUARE}"})
    assert told(tmp_path) == ({"images/a.png": ["leaf"], "images/a.png.jpg": ["stem"]}, [])
    write(tmp_path, {"images/a.png.png": ""})
    labels, problems = told(tmp_path)
    assert labels == {"images/a.png": ["leaf"]}
    assert problems == [
        "labels/a.png.txt: its image 'a.png' may be images/a.png.jpg or images/a.png.png; leave one of them there"
    ]


@pytest.mark.parametrize("source", ["", "data.yaml", "labels/a.TXT"])
@pytest.mark.parametrize("train", ["images", "train.txt"])
def test_windows_may_write_endings_in_capitals(tmp_path: Path, source: str, train: str) -> None:
    files = {"images/a.jpg": "", "labels/a.TXT": f"0 {SQUARE}", "train.txt": "images/a.jpg\n"}
    write(tmp_path, {**files, "data.yaml": f"{NAMES}train: {train}\n"})
    assert told(tmp_path / source) == ({"images/a.jpg": ["leaf"]}, [])


def test_labels_may_have_the_whole_name_of_their_image(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.png": "", "labels/a.png.txt": f"0 {SQUARE}", "data.yaml": NAMES})
    assert told(tmp_path)[0] == {"images/a.png": ["leaf"]}


@pytest.mark.parametrize(
    ("image", "place", "labels"),
    [
        ("a.jpg", "images/a.jpg", "labels/a.txt"),
        ("field 1/a.b.jpg", "images/field 1/a.b.jpg", "labels/field 1/a.b.txt"),
        ("images/train/a.jpg", "images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.jpg", "images/train/images/a.jpg", "images/train/labels/a.txt"),
        ("images.jpg", "images/images.jpg", "labels/images.txt"),
    ],
)
def test_labels_lie_where_ultralytics_looks_for_them(image: str, place: str, labels: str) -> None:
    assert yolo_layout.image_path(image) == place
    assert yolo_layout.annotation_path(image) == labels


def test_an_image_whose_labels_have_an_exports_name_is_not_told_as_without_any(tmp_path: Path) -> None:
    """As Label Studio names them without the images, which then lie there as they were uploaded."""
    files: dict[str, str | bytes] = {"images/my a.jpg": "", "images/b.jpg": "", "data.yaml": NAMES}
    labels = {"labels/0a1b2c3d-my_a.txt": f"0 {SQUARE}\n"}
    read, problems = told(write(tmp_path, {**files, **labels}))
    assert read == {"images/my a.jpg": ["leaf"]}
    assert len(problems) == 1 and "1 images have no label file" in problems[0] and "(images/b.jpg)" in problems[0]
