from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from model.errors import BadRecord
from model.formats import yolo, yolo_layout
from model.formats.table import FORMATS
from model.formats.yolo_classes import read_yaml
from model.geometry import polygons_to_mask
from model.records import Outline, Polygon, Record
from tests.model.formats.scenes import RECORDS, box, put, read, two_parts

SQUARE = "0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"  # 8 x 8 px of 20 x 20
NAMES = "names: [leaf, stem]\n"


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Text files, and an image of 20 x 20 px for each name of one."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png", ".PNG"):
            Image.new("RGB", (20, 20)).save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def told(source: Path, images: Path | None = None) -> tuple[dict[str, list[str]], list[str]]:
    """The labels of each image, and the problems without the folder's name."""
    problems: list[str] = []
    records = list(yolo.read(source, problems.append, images))
    return {r.image: [o.label for o in r.outlines] for r in records}, [p.replace(f"{source}/", "") for p in problems]


def flat(folder: Path, lines: str | bytes, names: str = NAMES) -> Path:
    return write(folder, {"a.jpg": "", "a.txt": lines, "data.yaml": names})


def outlines_of(folder: Path) -> tuple[Outline, ...]:
    (record,) = read("yolo", folder)
    return record.outlines


def mask_of(outline: Outline) -> np.ndarray:
    return polygons_to_mask(outline.parts, (20, 20))


def test_a_line_is_a_class_and_shares_of_the_image(tmp_path: Path) -> None:
    (outline,) = outlines_of(flat(tmp_path, f"1 {SQUARE}\n"))
    assert outline.label == "stem" and outline.score is None
    assert outline.parts[0].exterior.tolist() == [[2, 2], [10, 2], [10, 10], [2, 10]]


@pytest.mark.parametrize(
    "lines",
    [
        f"0 {SQUARE}",
        f"\n\n0 {SQUARE}\n\n \n",
        f"0 {SQUARE}\r\n".encode(),
        b"\xef\xbb\xbf" + f"0 {SQUARE}\n".encode(),
        f"0.0\t{SQUARE.replace(' ', '  ')} \n",
        f"0 {SQUARE} 0.1 0.1",
        f"0 {SQUARE.replace('0.1', '1e-1')}",
    ],
    ids=["no end of line", "blank lines", "windows", "byte order mark", "tabs", "closed", "exponents"],
)
def test_lines_may_be_written_in_many_ways(tmp_path: Path, lines: str | bytes) -> None:
    (outline,) = outlines_of(flat(tmp_path, lines))
    assert mask_of(outline).sum() == 64 and len(outline.parts[0].exterior) == 4


def test_the_count_of_numbers_tells_boxes_outlines_and_confidences_apart(tmp_path: Path) -> None:
    lines = [
        "0 0.5 0.5 0.2 0.2",
        f"0 {SQUARE}",
        "1 0.5 0.5 0.2 0.2 0.9",
        f"1 {SQUARE} 0.87",
        "0 0.1 0.1 0.5 0.1 0.5 0.5",
    ]
    problems: list[str] = []
    (record,) = yolo.read(flat(tmp_path, "\n".join(lines)), problems.append)
    assert [(outline.label, outline.score) for outline in record.outlines] == [
        ("leaf", None),
        ("stem", 0.87),
        ("leaf", None),
    ]
    boxes = "left out 2 boxes, lines of 5 numbers or of 6 with a confidence (1, 3); outline them"
    assert problems == [f"{tmp_path / 'a.txt'}: {boxes}"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0", "wanted a class and 3 points or more, got 0 numbers after the class"),
        ("0 0.1 0.2 0.3", "got 3 numbers after the class"),
        ("2 " + SQUARE, r"class 2 has no name in .*data\.yaml, its classes are 0..1"),
        ("-1 " + SQUARE, "class -1 has no name"),
        ("0.5 " + SQUARE, "class 0.5 has no name"),
        ("nan " + SQUARE, "class nan has no name"),
        ("leaf " + SQUARE, "wanted numbers with blanks between them, got 'leaf 0.1"),
        ("0,0.1,0.1,0.5,0.1,0.5,0.5", "wanted numbers with blanks between them"),
        ("0 40 40 200 40 200 200", "a coordinate is 200, wanted shares of the image, 0..1; divide pixels by its size"),
        ("0 0.1 0.1 1.5 0.1 0.5 0.5", "a coordinate is 1.5"),
        ("0 0.1 -0.1 0.5 0.1 0.5 0.5", "a coordinate is -0.1"),
        ("0 0.1 nan 0.5 0.1 0.5 0.5", "a coordinate is nan"),
        ("0 0.1 inf 0.5 0.1 0.5 0.5", "a coordinate is inf"),
        ("0 0.1 1e308 0.5 0.1 0.5 0.5", r"a coordinate is 1e\+308"),
        ("0 " + SQUARE + " 7", "the last of an odd count of numbers is a confidence, 0..1, got 7; take it out"),
        # https://github.com/ultralytics/yolov5/issues/11476: the number of the object comes second
        ("0 1952 " + SQUARE, "a coordinate is 1952, wanted shares of the image"),
    ],
)
def test_a_broken_line_costs_only_itself(tmp_path: Path, line: str, reason: str) -> None:
    labels, problems = told(flat(tmp_path, f"0 {SQUARE}\n{line}\n1 {SQUARE}\n"))
    assert labels == {"a.jpg": ["leaf", "stem"]}
    (problem,) = problems
    assert re.match(rf"a\.txt: line 2: .*{reason}", problem)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe0\x00 \x00", "save it as UTF-8"),
        (b"\0\0", "line 1: wanted numbers with blanks between them"),
        ("{", "line 1: wanted numbers"),
        ("<annotation/>", "line 1: wanted numbers"),
    ],
)
def test_what_is_no_label_file_is_one_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    write(tmp_path, {"b.jpg": "", "b.txt": f"0 {SQUARE}"})
    labels, problems = told(flat(tmp_path, content))
    assert labels["b.jpg"] == ["leaf"]
    (problem,) = problems
    assert re.search(rf"a\.txt.*{reason}", problem)


def test_decimal_commas_are_read_and_told(tmp_path: Path) -> None:
    labels, problems = told(flat(tmp_path, f"0 {SQUARE.replace('.', ',')}\n1 {SQUARE.replace('.', ',')}\n"))
    assert labels == {"a.jpg": ["leaf", "stem"]}
    assert problems == ["a.txt: its decimal commas are read as points"]


def test_an_image_with_a_box_is_not_read_whole_and_one_with_decimal_commas_is(tmp_path: Path) -> None:
    write(flat(tmp_path, "0 0.5 0.5 0.2 0.2"), {"b.jpg": "", "b.txt": f"0 {SQUARE.replace('.', ',')}"})
    boxed, commas = yolo.read(tmp_path, lambda line: None)
    assert len(boxed.unread) == 1 and "left out 1 boxes" in boxed.unread[0]
    assert commas.unread == ()


@pytest.mark.parametrize("slip", ["-0.003", "-0.05"])
def test_what_reaches_a_little_over_the_edge_is_cut_off(tmp_path: Path, slip: str) -> None:
    over = 1 - float(slip)
    (outline,) = outlines_of(flat(tmp_path, f"0 {slip} {slip} {over} {slip} {over} {over} {slip} {over}"))
    assert outline.parts[0].exterior.tolist() == [[0, 0], [20, 0], [20, 20], [0, 20]]


def test_an_empty_file_is_an_image_without_objects_and_none_is_an_image_that_is_not_annotated(tmp_path: Path) -> None:
    labels, problems = told(write(flat(tmp_path, ""), {"b.jpg": "", "sub/c.PNG": ""}))
    assert labels == {"a.jpg": []}
    mend = "an empty one would say that the image holds nothing"
    assert problems == [f"{tmp_path}: 2 images have no label file and are left out; {mend} (b.jpg, sub/c.PNG)"]


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
        ("names: [leaf\n", "wanted YAML in .*data.yaml, got something else"),
        ("names: [leaf]\nkpt_shape: [17, 3]", "is of a pose data set"),
        ("- leaf", "wanted 'names', 'train' and 'val' in .*data.yaml, got other YAML"),
        ("x: &x [*x]", "wanted YAML in"),
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


def test_a_set_is_written_as_ultralytics_trains_on_it(tmp_path: Path) -> None:
    square = Outline("stem", (Polygon(box(2, 2, 10, 10)),), 0.9)
    yolo.write([Record("x/a.jpg", (20, 40), (square,)), Record("b.jpg", (20, 20), ())], tmp_path, ("leaf", "stem"))
    assert (tmp_path / "labels/x/a.txt").read_text() == "1 0.05 0.1 0.25 0.1 0.25 0.5 0.05 0.5\n"
    assert (tmp_path / "labels/b.txt").read_text() == ""
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert content == {"train": "images", "val": "images", "names": {0: "leaf", 1: "stem"}}


def test_numbers_of_classes_stay_and_new_ones_follow(tmp_path: Path) -> None:
    own = "# mine\ntrain: images/train\nval: images/val\nnc: 2\nnames: [no, stem]\n"
    write(tmp_path, {"data.yaml": own})
    record = Record("a.jpg", (20, 20), (Outline("stem", (Polygon(box(2, 2, 10, 10)),)),))
    yolo.write([record], tmp_path, ("stem",))
    assert (tmp_path / "data.yaml").read_text() == own
    yolo.write([record], tmp_path, ("null", "stem", "Läsion: 1"))
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert content["names"] == {0: "no", 1: "stem", 2: "null", 3: "Läsion: 1"}
    assert (content["nc"], content["train"]) == (4, "images/train")
    assert (tmp_path / "labels/a.txt").read_text().startswith("1 ")
    assert read_yaml(tmp_path / "data.yaml")["names"] == {"0": "no", "1": "stem", "2": "null", "3": "Läsion: 1"}


@pytest.mark.parametrize("outline", [o for o in RECORDS[0].outlines if len(o.parts) > 1 or o.parts[0].holes])
def test_parts_and_holes_are_one_ring_whose_pixels_a_trainer_sees(tmp_path: Path, outline: Outline) -> None:
    """As Ultralytics draws it: one cv2.fillPoly, which also paints the pixels under the ring and its seams."""
    yolo.write([Record("a.jpg", (100, 120), (outline,))], tmp_path, (outline.label,))
    (line,) = (tmp_path / "labels/a.txt").read_text().splitlines()
    points = np.array(line.split()[1:], float).reshape(-1, 2) * (120, 100)
    drawn = cv2.fillPoly(np.zeros((100, 120), np.uint8), [points.astype(np.int32)], 1)
    seamless = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)
    ours = polygons_to_mask(outline.parts, (100, 120)).astype(np.uint8)
    inner, outer = (draw(ours, np.ones((3, 3), np.uint8)).astype(bool) for draw in (cv2.erode, cv2.dilate))
    assert (inner <= drawn.astype(bool)).all() and (seamless <= outer).all()


def test_what_ultralytics_converter_joined_is_parts_again(tmp_path: Path) -> None:
    """Its merge_multi_segment walks from part to part on one way and back on the other."""
    first = "0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3 0.1 0.1"
    there, last, back = "0.5 0.1 0.7 0.1", "0.9 0.5 0.95 0.5 0.9 0.6 0.9 0.5", "0.7 0.1 0.7 0.3 0.5 0.3 0.5 0.1"
    (outline,) = outlines_of(flat(tmp_path, f"0 {first} {there} {last} {back}"))
    assert sorted(len(part.exterior) for part in outline.parts) == [3, 4, 4]
    assert mask_of(outline).sum() == pytest.approx(32 + 1, abs=1)


def test_parts_that_touch_become_one(tmp_path: Path) -> None:
    outline = Outline("leaf", (Polygon(box(2, 2, 12, 12)), Polygon(box(12, 2, 20, 12))))
    put("yolo", [Record("a.jpg", (20, 20), (outline,))], tmp_path, ("leaf",))
    (back,) = outlines_of(tmp_path)
    assert len(back.parts) == 1
    assert np.array_equal(mask_of(back), mask_of(outline))


def test_what_reaches_out_of_the_image_is_written_as_its_pixels(tmp_path: Path) -> None:
    outline = Outline("leaf", (Polygon(np.array([[-9.0, -9.0], [30.0, 5.0], [5.0, 30.0]])), *two_parts(14)))
    put("yolo", [Record("a.jpg", (20, 20), (outline,))], tmp_path, ("leaf",))
    shares = [float(text) for text in (tmp_path / "labels/a.txt").read_text().split()[1:]]
    assert min(shares) >= 0 and max(shares) <= 1
    assert np.array_equal(mask_of(outlines_of(tmp_path)[0]), mask_of(outline))


def test_an_object_outside_of_its_image_is_refused(tmp_path: Path) -> None:
    record = Record("a.jpg", (20, 20), (Outline("leaf", (Polygon(box(30, 30, 40, 40)),)),))
    with pytest.raises(BadRecord, match=r"a 'leaf' of a\.jpg lies outside of its image; delete it"):
        yolo.write([record], tmp_path, ("leaf",))


def test_coordinates_of_large_images_come_back_to_a_thousandth_of_a_pixel(tmp_path: Path) -> None:
    points = np.array([[1 / 3, 2 / 3], [19999.123, 7.7], [12345.678, 0.001]])
    put("yolo", [Record("a.png", (8, 20000), (Outline("leaf", (Polygon(points),)),))], tmp_path, ("leaf",))
    assert np.abs(outlines_of(tmp_path)[0].parts[0].exterior - points).max() < 1e-3


@pytest.mark.parametrize(
    "points", ["1.01 .1 1.04 .1 1.04 .4 1.01 .4", ".1 .1 .1 .1 .1 .1"], ids=["outside", "one place"]
)
def test_an_outline_without_area_is_told(tmp_path: Path, points: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "a.txt").write_text(f"0 {points}\n0 .1 .1 .6 .1 .6 .6\n")
    (tmp_path / "classes.txt").write_text("leaf\n")
    told: list[str] = []
    (record,) = yolo.read(tmp_path, told.append)
    assert len(record.outlines) == 1 and len(record.unread) == 1 and "no area inside" in told[0]
