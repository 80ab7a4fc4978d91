"""Results that are no outline of an object: which are named as left out, and which are passed over."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from label_studio_sdk.converter import brush

from backend.label_studio.annotations import doubts_about, labels_of_objects, read_outlines, unread_regions
from tests.backend.label_studio.drawn import (
    CONFIG,
    LABELS_BESIDE,
    PER_REGION,
    SIZE,
    TRIANGLE,
    blob,
    png,
    polygon,
    read,
    result,
)

UNREAD = [
    (result("other", "polygonlabels", labels=["plum"], points=TRIANGLE), "is of the control 'other'"),
    (result("gone", "vectorlabels", labels=["plum"], vertices=[]), "is of the control 'gone'"),
    (result("point", "keypointlabels", labels=["plum"], x=1, y=1, width=1), "is of the kind keypointlabels"),
    (polygon(labels=()), r"its label \(none\) is not one of plum, pear"),
    (polygon(labels=("moon",)), "its label moon is not one of"),
    (polygon(points=[[1, 1], [2, 2]]), "an outline needs at least 3 points"),
    (result("shape", "polygonlabels", labels=["plum"], points=TRIANGLE, closed=False), "its polygon is not closed"),
    (result("bits", "bitmasklabels", labels=["plum"], imageDataURL="https://x/y.png"), "no data:image/png"),
    (result("bits", "bitmasklabels", labels=["plum"], imageDataURL="data:image/png;base64,@@"), "no base64"),
    (result("round", "ellipselabels", labels=["plum"], x=1, y=1, radiusX=0, radiusY=3), "ellipse has the radii 0"),
    (result("box", "rectanglelabels", labels=["plum"], x=1, y=1, width=0, height=3), "rectangle is 0 by 3 %"),
    (result("brush", "brushlabels", labels=["plum"], format="rle", rle=[]), "brush mask"),
    (result("brush", "brushlabels", labels=["plum"], format="rle", rle=[9, 300, 119691]), "run lengths .COCO's"),
    (result("ripe", "polygonlabels", labels=["plum"], points=TRIANGLE), "is of the kind polygonlabels"),
    (polygon(points=[[256, 12], [264, 12], [264, 20]]), "outside of its image, x 256..264 %, y 12..20 %"),
    (result("box", "rectanglelabels", labels=["plum"], x=10, y=-9, width=4, height=9), "outside of its image, x 10"),
    (result("round", "ellipselabels", labels=["plum"], x=50, y=140, radiusX=9, radiusY=9), "outside of its image"),
    ({**polygon(), "value": "x"}, "its label"),
    (result("shape", "polygonlabels", labels=["plum"]), "its KeyError 'points'"),
]


@pytest.mark.parametrize(("drawn", "reason"), UNREAD, ids=[reason for _, reason in UNREAD])
def test_what_may_be_an_object_is_named_with_and_without_its_image(drawn: dict, reason: str) -> None:
    outlines, (line,) = read(polygon("b"), drawn)
    assert len(outlines) == 1 and line.startswith("region a of annotation 7 is left out: ")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(line)
    (early,) = unread_regions({"id": 7, "result": [polygon("b"), drawn]}, CONFIG)
    assert early.startswith("region a of annotation 7 is left out: ")


@pytest.mark.parametrize(
    "said",
    [
        *PER_REGION,
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        result("gone", "choices", None, labels=["x"]),
        {**result("gone", "pairwise", None), "value": {"selected": "left"}},
        result("point", "keypointlabels", "p", labels=["stem"], x=1, y=1, width=1),
        result("nameless", "ellipse", "e", x=40, y=40, radiusX=10, radiusY=10),
    ],
    ids=lambda said: f"{said['type']} {said.get('from_name')}",
)
def test_what_outlines_nothing_is_passed_over(said: dict) -> None:
    outlines, left_out = read(polygon("b"), said)
    assert (len(outlines), left_out) == (1, ())
    assert unread_regions({"id": 7, "result": [polygon("b"), said]}, CONFIG) == ()


def test_masks_of_another_size_are_noticed_when_the_image_is_known() -> None:
    small = np.full((30, 40), 255, np.uint8)
    for drawn in (
        result("bits", "bitmasklabels", labels=["plum"], imageDataURL=png(small)),
        result("brush", "brushlabels", labels=["plum"], format="rle", rle=brush.mask2rle(small)),
    ):
        assert unread_regions({"id": 7, "result": [drawn]}, CONFIG) == ()
        outlines, (line,) = read(drawn)
        assert not outlines and "draw it again" in line


def test_what_was_drawn_before_a_photo_was_turned_is_named() -> None:
    """As by programs and browsers that pass a camera's orientation over; a mask as large runs along other rows."""
    lying, upright = (
        {"original_width": width, "original_height": height} for height, width in ((SIZE[1], SIZE[0]), SIZE)
    )
    painted = result(
        "brush", "brushlabels", labels=["plum"], format="rle", rle=brush.mask2rle(blob().T * np.uint8(255))
    )
    outlines, (line,) = read(polygon("b", **lying), {**painted, **lying})
    assert [outline.label for outline in outlines] == ["plum"]
    assert "its brush mask is of an image of 300 x 400 px, which now has 400 x 300; turn the image back or draw" in line
    (line,) = doubts_about({"id": 7, "result": [polygon("b", **lying)]}, CONFIG, SIZE)
    assert "1 region of annotation 7: what was drawn is of an image of 300 x 400 px, which now has 400 x 300" in line
    for size in (upright, {**lying, "image_rotation": 90}):
        assert doubts_about({"id": 7, "result": [polygon("b", **size)]}, CONFIG, SIZE) == ()
    assert doubts_about({"id": 7, "result": [polygon("b")]}, CONFIG, (300, 300)) == ()


def test_a_brush_mask_with_a_broken_byte_is_named_or_read() -> None:
    rle = brush.mask2rle(np.tile(np.uint8([0, 255, 9]), (6, 4)))
    told = []
    for at, byte in itertools.product(range(4, len(rle)), (0, 7, 170, 255)):
        drawn = result("brush", "brushlabels", labels=["plum"], format="rle", rle=[*rle[:at], byte, *rle[at + 1 :]])
        outlines, left_out = read_outlines({"id": 7, "result": [drawn]}, CONFIG, (6, 12))
        assert len(outlines) + len(left_out) == 1
        told += left_out
    assert any("its brush mask is broken" in line for line in told)


def test_a_brush_mask_of_small_coco_counts_is_named() -> None:
    drawn = result("brush", "brushlabels", labels=["plum"], rle=[200, 3, 7, 12, 5])
    outlines, (line,) = read(drawn)
    assert not outlines and "its brush mask holds" in line


def test_masks_of_which_nothing_is_left_are_named() -> None:
    erased = brush.mask2rle(np.zeros(SIZE, np.uint8))
    clear = np.zeros((*SIZE, 4), np.uint8)
    for drawn in (
        result("brush", "brushlabels", labels=["plum"], format="rle", rle=erased),
        result("bits", "bitmasklabels", labels=["plum"], imageDataURL=png(clear)),
    ):
        outlines, (line,) = read(drawn)
        assert not outlines and "nothing of its mask is left" in line


def test_an_annotation_that_was_sent_without_a_result_is_named_and_not_taken_for_an_empty_image() -> None:
    annotation = {"id": 7, "result": None}  # as Label Studio stores a POST of {}
    (line,) = unread_regions(annotation, CONFIG)
    assert line.startswith("annotation 7 has no result, not even an empty one")
    assert read_outlines(annotation, CONFIG, SIZE) == ((), (line,))
    assert labels_of_objects(annotation, CONFIG) == ()


def test_two_shapes_under_one_id_are_named() -> None:
    outlines, (line,) = read(polygon(), polygon(points=[[60, 60], [80, 60], [80, 80]]), polygon("b"))
    assert len(outlines) == 1 and "two different shapes have this id" in line


def test_a_label_without_its_shape_is_named() -> None:
    alone = {**result("l", "labels", labels=["plum"], points=TRIANGLE), "to_name": "image"}
    outlines, (line,) = read(alone, config=LABELS_BESIDE)
    assert not outlines and "it has a label and no shape" in line


FAR = {"x": 50, "y": 50, "rotation": 0}


@pytest.mark.parametrize(
    "drawn",
    [
        result("round", "ellipselabels", labels=["plum"], radiusX=float("inf"), radiusY=10, **FAR),
        result("round", "ellipselabels", labels=["plum"], radiusX=1e17, radiusY=1e17, **FAR),
        result("box", "rectanglelabels", labels=["plum"], width=float("nan"), height=10, **FAR),
        result("box", "rectanglelabels", labels=["plum"], width=1e300, height=1e300, **FAR),
        result("shape", "polygonlabels", labels=["plum"], points=[[1e300, 0], [0, 1e300], [1, 1]]),
    ],
)
def test_values_that_no_editor_writes_cost_one_region_and_no_round(drawn: dict) -> None:
    outlines, left_out = read(drawn, polygon("b"))
    assert 1 <= len(outlines) <= 2 and len(outlines) + len(left_out) == 2
    unread_regions({"id": 7, "result": [drawn]}, CONFIG)
