"""What Label Studio's results say of an image: which are one object, and how each is outlined."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from label_studio_sdk.converter import brush

from backend.label_studio.annotations import doubts_about, labels_of_objects, read_outlines
from backend.label_studio.labels import parse_label_config
from backend.label_studio.predictions import mask_to_regions, outlines_to_regions
from model.geometry import box_of, keyhole, polygons_to_mask, rings_to_mask
from model.records import Outline, Polygon
from tests.backend.label_studio.drawn import (
    ALL,
    CONFIG,
    JOINED,
    LABELS_BESIDE,
    PER_REGION,
    SIZE,
    STAR,
    TRIANGLE,
    blob,
    iou,
    mask_of,
    png,
    polygon,
    read,
    result,
)


@pytest.mark.parametrize("kind", ["transparent", "grey", "colour", "16 bit"])
def test_a_bitmask_is_what_its_png_shows(kind: str) -> None:
    mask = blob()
    painted = {
        "transparent": np.dstack([np.full((*SIZE, 3), 90, np.uint8), mask * np.uint8(255)]),
        "grey": mask.astype(np.uint8) * 255,
        "colour": np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 200,
        "16 bit": mask.astype(np.uint16) * 65535,
    }[kind]
    (outline,), left_out = read(result("bits", "bitmasklabels", labels=["plum"], imageDataURL=png(painted)))
    assert not left_out and (mask_of(outline) == mask).all()


@pytest.mark.parametrize("rotation", [0, 30, 90, 205.5])
def test_an_ellipse_is_read_as_drawn(rotation: float) -> None:
    drawn = result("round", "ellipselabels", labels=["plum"], x=50, y=50, radiusX=20, radiusY=8, rotation=rotation)
    (outline,), left_out = read(drawn)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    along = (xs - 200) * np.cos(np.radians(rotation)) + (ys - 150) * np.sin(np.radians(rotation))
    across = (ys - 150) * np.cos(np.radians(rotation)) - (xs - 200) * np.sin(np.radians(rotation))
    expected = (along / 80) ** 2 + (across / 24) ** 2 <= 1
    assert not left_out and iou(mask_of(outline), expected) > 0.99


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["shape first", "labels first"])
@pytest.mark.parametrize("name", ["poly", "brush", "box", "round"])
def test_labels_beside_a_shape_are_joined_by_the_regions_id(name: str, order: tuple[int, int]) -> None:
    value = {
        "poly": {"points": TRIANGLE},
        "brush": {"format": "rle", "rle": brush.mask2rle(blob().astype(np.uint8) * 255)},
        "box": {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0},
        "round": {"x": 40, "y": 40, "radiusX": 10, "radiusY": 10, "rotation": 0},
    }[name]
    kind = {"poly": "polygon", "brush": "brush", "box": "rectangle", "round": "ellipse"}[name]
    both = [
        {**result(name, kind, **value), "to_name": "image"},
        {**result("l", "labels", labels=["pear"], **value), "to_name": "image"},
    ]
    (outline,), left_out = read(*(both[place] for place in order), config=LABELS_BESIDE)
    assert (outline.label, left_out) == ("pear", ()) and mask_of(outline).any()


@pytest.mark.parametrize(
    "tag", ["PolygonLabels", "BrushLabels", "BitmaskLabels", "Labels + Polygon", "Labels + Bitmask"]
)
def test_what_is_pre_labelled_comes_back(tag: str) -> None:
    label = '<Label value="plum"/>'
    controls = (
        f'<Labels name="l" toName="i">{label}</Labels><{tag.rpartition(" ")[2]} name="s" toName="i"/>'
        if "+" in tag
        else f'<{tag} name="s" toName="i">{label}</{tag}>'
    )
    config = parse_label_config(f'<View><Image name="i" value="$i"/>{controls}</View>')
    mask = blob()
    mask[250:290, 300:380] = True
    regions = mask_to_regions(mask, box_of(mask), "plum", config, "m0")
    (outline,), left_out = read_outlines({"id": 1, "result": regions}, config, SIZE)
    assert not left_out and iou(mask_of(outline), mask) > 0.95
    assert len(regions) == {"PolygonLabels": 2, "Labels + Polygon": 4, "Labels + Bitmask": 2}.get(tag, 1)


def test_an_ellipse_is_pre_labelled_with_the_objects_area_and_place() -> None:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (220, 130), (80, 30), 40, 0, 360, 1, -1)
    control = '<EllipseLabels name="e" toName="i"><Label value="plum"/></EllipseLabels>'
    config = parse_label_config(f'<View><Image name="i" value="$i"/>{control}</View>')
    regions = mask_to_regions(mask > 0, box_of(mask > 0), "plum", config, "m0")
    (outline,), left_out = read_outlines({"id": 1, "result": regions}, config, SIZE)
    assert not left_out and iou(mask_of(outline), mask > 0) > 0.97


def test_a_rectangle_that_was_drawn_upwards_is_read() -> None:
    drawn = result("box", "rectanglelabels", labels=["plum"], x=20, y=90, width=30, height=-60, rotation=0)
    (outline,), left_out = read(drawn)
    assert not left_out and box_of(mask_of(outline)).tolist() == [80, 90, 200, 270]


def test_results_without_a_type_are_read_by_their_control() -> None:
    plain = {key: value for key, value in polygon().items() if key != "type"}
    said = {key: value for key, value in PER_REGION[0].items() if key != "type"}
    (outline,), left_out = read(plain, said)
    assert (outline.label, left_out) == ("plum", ())


# one id is one region


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[:6])
@pytest.mark.parametrize("said", PER_REGION, ids=lambda said: said["type"])
def test_what_is_said_of_a_region_does_not_split_its_object(said: dict, order: tuple[int, ...]) -> None:
    island = [[60, 60], [80, 60], [80, 80]]
    results = [polygon("a"), polygon("b", points=island, parentID="a"), said]
    (outline,), left_out = read(*(results[place] for place in order))
    assert (len(outline.parts), left_out) == (2, ())


def test_two_labels_on_one_region_are_one_object_of_the_first_in_the_config() -> None:
    for labels in (["plum", "pear"], ["pear", "plum"]):
        several = polygon(labels=tuple(labels))
        twice = [polygon(labels=(name,)) for name in labels]
        for results in ([several], twice):
            outlines, left_out = read(*results)
            assert [outline.label for outline in outlines] == ["plum"] and not left_out
            (line,) = doubts_about({"id": 7, "result": results}, CONFIG, SIZE)
            assert line == "region a of annotation 7 has the labels plum, pear; it counts as plum; leave one"


def test_a_config_that_invites_two_labels_or_a_second_image_says_so() -> None:
    xml = ALL.replace('name="brush" toName', 'name="brush" choice="multiple" toName')
    remarks = parse_label_config(xml).remarks
    assert sum("lets a region have several labels" in line for line in remarks) == 1
    assert any("the Ellipse 'nameless' is not used: it has no labels" in line for line in remarks)
    assert any("the image 'right' is not used: only the first one, 'left', is trained" in line for line in remarks)
    own = '<PolygonLabels name="{0}" toName="image"><Label value="{0}"/></PolygonLabels>'
    twins = JOINED.replace("</View>", own.format("p") + own.format("q") + "</View>")
    assert any("p and q" in line for line in parse_label_config(twins).remarks)
    assert parse_label_config(JOINED).remarks == ()


LABELS, POLYGON = '<Labels name="{}" toName="i">{}</Labels>', '<Polygon name="s" toName="i"/>'
OWN, BRUSH = (f'<{tag} name="{{}}" toName="i">{{}}</{tag}>' for tag in ("PolygonLabels", "BrushLabels"))
A = '<Label value="a"/>'


@pytest.mark.parametrize(
    ("controls", "told"),
    [
        (LABELS.format('l" choice="multiple', A) + POLYGON, "the Labels 'l' lets"),
        (LABELS.format("l", A) + LABELS.format("m", A) + POLYGON, "l and m can each"),
        (OWN.format("p", A) + LABELS.format("l", A), "p and l can each"),
        (OWN.format("p", A) + BRUSH.format("b", A), ""),
    ],
)
def test_configs_that_let_a_region_have_two_labels_say_so(controls: str, told: str) -> None:
    remarks = parse_label_config(f'<View><Image name="i" value="$i"/>{controls}</View>').remarks
    assert any(told in line for line in remarks) if told else remarks == ()


# other images


def test_what_lies_on_another_image_or_page_is_not_of_this_one() -> None:
    results = [polygon("a"), polygon("b", to_name="right"), polygon("c", item_index=2), polygon("d", item_index=0)]
    outlines, left_out = read(*results)
    assert (len(outlines), left_out) == (2, ())
    (line,) = doubts_about({"id": 7, "result": results}, CONFIG, SIZE)
    assert line == "2 regions of annotation 7 are not used: they lie on another image or page than the first"
    (line,) = doubts_about({"id": 7, "result": results[:2]}, CONFIG, SIZE)
    assert line == "1 region of annotation 7 is not used: it lies on another image or page than the first"
    words = {**result("words", "labels", "t", labels=["w"], start=0, end=3), "to_name": "told"}
    assert read(words) == ((), ()) and doubts_about({"id": 7, "result": [words]}, CONFIG, SIZE) == ()


def test_the_first_image_is_the_first_that_shapes_are_drawn_on() -> None:
    xml = """<View><Image name="guide" value="$guide"/><Image name="photo" value="$photo"/>
    <PolygonLabels name="p" toName="photo"><Label value="plum"/></PolygonLabels></View>"""
    config = parse_label_config(xml)
    assert (config.image_value.text, config.image_names) == ("$photo", ("photo",))
    spaced = parse_label_config(xml.replace('toName="photo"', 'toName="guide, photo"'))
    assert spaced.image_value.text == "$guide" and spaced.controls[0].to_name == "guide"


# as it is seen


def test_an_outline_that_crosses_itself_is_filled_as_label_studio_paints_it() -> None:
    (outline,), _ = read(polygon(points=STAR))
    painted, points_alone = mask_of(outline), rings_to_mask([np.array(STAR) * [4, 3]], SIZE)
    assert painted[135:150, 195:205].all() and not points_alone[135:150, 195:205].any(), "the middle of the star"
    assert painted[points_alone].all() and painted.sum() > 1.2 * points_alone.sum()


@pytest.mark.parametrize("same_sense", [True, False])
def test_a_hole_is_one_only_if_it_runs_against_its_outline(same_sense: bool) -> None:
    outer, inner = [[10, 10], [60, 10], [60, 60], [10, 60]], [[20, 20], [40, 20], [40, 40], [20, 40]]
    ring = [*outer, outer[0], *(inner if same_sense else inner[::-1]), (inner if same_sense else inner[::-1])[0]]
    (outline,), _ = read(polygon(points=ring))
    assert mask_of(outline)[90, 120] == same_sense


@pytest.mark.parametrize("hole", [np.array([[20, 20], [40, 20], [40, 40], [20, 40]], float)])
@pytest.mark.parametrize("turn", [1, -1])
def test_holes_are_written_so_that_they_are_seen(hole: np.ndarray, turn: int) -> None:
    part = Polygon(np.array([[10, 10], [90, 10], [90, 90], [10, 90]], float), (hole[::turn],))
    regions = outlines_to_regions([Outline("plum", (part,))], SIZE, CONFIG)
    (outline,), _ = read(*({**region, "to_name": "left"} for region in regions))
    assert (mask_of(outline) == polygons_to_mask([part], SIZE)).all() and not mask_of(outline)[30, 30]
    assert np.allclose(keyhole(part)[:, 0].max(), 90)


def test_an_even_odd_star_of_another_tool_keeps_its_hole_in_label_studio() -> None:
    part = Polygon(np.array(STAR) * [4, 3])
    regions = outlines_to_regions([Outline("plum", (part,))], SIZE, CONFIG)
    (outline,), _ = read(*({**region, "to_name": "left"} for region in regions))
    assert (mask_of(outline) == polygons_to_mask([part], SIZE)).all() and not mask_of(outline)[143, 200]


def test_a_bitmask_that_is_painted_all_over_is_the_whole_image() -> None:
    black = np.zeros((*SIZE, 4), np.uint8)  # as Label Studio paints
    black[..., 3] = 255
    (outline,), left_out = read(result("bits", "bitmasklabels", labels=["plum"], imageDataURL=png(black)))
    assert not left_out and mask_of(outline).all()


def test_labels_are_told_object_by_object_without_the_image() -> None:
    part = {**polygon("part", points=[[60, 60], [80, 60], [80, 80]]), "parentID": "whole"}
    unknown = {**polygon("unknown"), "from_name": "gone"}
    mask = result("brush", "brushlabels", labels=["plum"], format="rle", rle=[])
    drawn = {"result": [polygon("whole"), part, mask, unknown]}
    assert labels_of_objects(drawn, CONFIG) == ("plum", "plum"), "two parts are one object, what has no class is none"
