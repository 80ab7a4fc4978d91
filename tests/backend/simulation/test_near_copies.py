from __future__ import annotations

import cv2
import numpy as np

from backend.simulation.near_copies import near_copies
from model.geometry import mask_to_polygons, polygons_to_mask
from model.records import Outline, Record

SIZE_HW = (200, 400)


def scene(x: int, y: int, radius: int = 30) -> tuple[np.ndarray, Record]:
    """A dark disc with a hole on a bright ground."""
    mask = np.zeros(SIZE_HW, np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    cv2.circle(mask, (x, y), radius // 3, 0, -1)
    photo = np.where(mask[..., None] > 0, 40, 220).astype(np.uint8).repeat(3, 2)
    return photo, Record("field.png", SIZE_HW, (Outline("disc", mask_to_polygons(mask > 0)),))


def test_the_outlines_lie_where_the_pixels_went_and_holes_stay_holes() -> None:
    photo, record = scene(200, 100)
    for copy in near_copies(record, 5):
        seen = copy.of(photo).mean(2) < 130
        [outline] = copy.record.outlines
        told = polygons_to_mask(outline.parts, SIZE_HW)
        assert (seen & told).sum() / (seen | told).sum() > 0.93
        assert len(outline.parts[0].holes) == 1


def test_no_copy_is_the_photo_or_another_copy() -> None:
    photo, record = scene(200, 100)
    images = [photo, *(copy.of(photo) for copy in near_copies(record, 3))]
    for i, one in enumerate(images):
        assert all(np.abs(one.astype(int) - other).mean() > 1 for other in images[:i])


def test_nothing_from_beside_the_photo_is_seen() -> None:
    """A red ground would turn up grey at the border."""
    photo = np.full((*SIZE_HW, 3), (200, 30, 30), np.uint8)
    for copy in near_copies(Record("red.png", SIZE_HW, ()), 20):
        image = copy.of(photo).astype(int)
        assert np.ptp(image.reshape(-1, 3), axis=0).max() <= 3


def test_an_object_that_the_crop_leaves_out_is_gone_and_one_that_it_cuts_stays() -> None:
    _, corner = scene(4, 4, radius=3)
    _, edge = scene(0, 100, radius=60)
    assert any(not copy.record.outlines for copy in near_copies(corner, 10))
    assert all(copy.record.outlines for copy in near_copies(edge, 10))


def test_the_same_photo_always_has_the_same_copies() -> None:
    photo, record = scene(200, 100)
    first, again = (next(near_copies(record, 1)) for _ in range(2))
    assert first.record.image == "field.png#1" and first.original == "field.png"
    assert (first.of(photo) == again.of(photo)).all()
    assert list(near_copies(record, 0)) == []
