from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.near_copies import CHECKS, MISSES, Glance, find_near_copies, glance, is_near_copy, thumbnail
from tests.textures import shot_again, textured


def at_a_glance(image: np.ndarray) -> Glance:
    return glance(thumbnail(image))


def are_near_copies(one: np.ndarray, other: np.ndarray) -> bool:
    return is_near_copy(at_a_glance(one), at_a_glance(other))


@pytest.mark.parametrize("seed", range(3))
def test_another_shot_is_a_near_copy_and_another_photo_is_none(seed: int) -> None:
    photo = textured(seed)
    assert are_near_copies(photo, shot_again(photo, seed)) and are_near_copies(shot_again(photo, seed), photo)
    assert not are_near_copies(photo, textured(seed + 100))


@pytest.mark.parametrize("turns", range(4))
def test_a_mirrored_photo_is_a_near_copy_however_it_is_turned(turns: int) -> None:
    photo = textured(1)
    mirrored = np.ascontiguousarray(np.rot90(photo[:, ::-1], turns))
    assert are_near_copies(photo, mirrored) and are_near_copies(mirrored, photo)
    assert not are_near_copies(textured(2), mirrored)


@pytest.mark.parametrize(("shared", "is_copy"), [(0.8, True), (0.6, True), (0.4, False), (0.2, False)])
def test_frames_that_share_half_are_near_copies(shared: float, is_copy: bool) -> None:
    strip, width = textured(1, (150, 400)), 200
    shift = round(width * (1 - shared))
    assert are_near_copies(strip[:, :width], strip[:, shift : shift + width]) == is_copy


def test_another_object_on_the_same_ground_is_another_image() -> None:
    photo, other = textured(1), textured(1)
    other[30:120, 40:160] = textured(2)[30:120, 40:160]
    assert not are_near_copies(photo, other)


def with_scale_bar(photo: np.ndarray) -> np.ndarray:
    """The photo as a microscope stores it, with a bar and a text at the lower right."""
    shown, (height, width) = photo.copy(), photo.shape[:2]
    cv2.rectangle(shown, (width - 60, height - 14), (width - 10, height - 10), (255, 255, 255), -1)
    cv2.putText(shown, "50 um", (width - 58, height - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return shown


def faint(seed: int) -> np.ndarray:
    """A photo of little contrast, one broad shape as in all of them, and its own faint texture."""
    shape = cv2.GaussianBlur(cv2.circle(np.zeros((150, 200), np.float32), (100, 75), 50, 60, -1), (0, 0), 4)
    noise = np.random.default_rng(seed).normal(size=(150, 200)).astype(np.float32)
    grey = 120 - shape + 8 * cv2.GaussianBlur(noise, (0, 0), 2)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_a_scale_bar_on_all_images_makes_none_of_them_copies() -> None:
    photos = [with_scale_bar(faint(seed)) for seed in range(8)]
    assert not [1 for i, one in enumerate(photos) for other in photos[:i] if are_near_copies(one, other)]
    photo = textured(0)
    assert are_near_copies(with_scale_bar(photo), with_scale_bar(shot_again(photo))), "the same beside it, too"


def test_a_dark_photo_is_told_by_what_little_there_is_to_see() -> None:
    dark = np.asarray(textured(1) // 12)
    assert are_near_copies(dark, shot_again(textured(1))) and not are_near_copies(dark, np.asarray(textured(2) // 12))


def test_images_without_anything_to_see_are_no_copies() -> None:
    blank = np.full((150, 200, 3), 250, np.uint8)
    assert not are_near_copies(blank, blank) and not are_near_copies(blank, textured(1))
    assert not are_near_copies(textured(1, (1, 1)), textured(1, (1, 1)))
    assert at_a_glance(blank).corners.shape == (0, 2) and at_a_glance(blank).words.shape == (0, 32)


def features(groups: np.ndarray) -> np.ndarray:
    """Features (n, 20), alike within a group."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(groups.max() + 1, 20))[groups] + rng.normal(0, 0.1, (len(groups), 20))


@pytest.mark.parametrize("size_hw", [(1, 5000), (4000, 3), (1, 1)])
def test_a_line_of_a_line_camera_is_no_copy_and_no_error(size_hw: tuple[int, int]) -> None:
    line = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    assert not len(at_a_glance(line).corners) and not are_near_copies(line, line)


def test_copies_are_found_among_the_nearest_each_pair_from_one_side_at_least() -> None:
    groups = np.repeat(np.arange(15), 2)
    photos = [at_a_glance(textured(group) if i % 2 else shot_again(textured(group))) for i, group in enumerate(groups)]
    found = dict(find_near_copies(features(groups), range(30), photos.__getitem__))
    pairs = {tuple(sorted((row, other))) for row, others in found.items() for other in others}
    assert pairs == {(row, row + 1) for row in range(0, 30, 2)}
    assert dict(find_near_copies(features(groups), [7], photos.__getitem__)) == {7: [6]}, "a new one among known ones"


def test_a_large_burst_costs_no_more_than_its_checks() -> None:
    groups = np.repeat([0, 1], [CHECKS + 20, 5])
    looked_at: list[int] = []
    photos = [at_a_glance(textured(0)), at_a_glance(textured(1))]

    def look(row: int) -> Glance:
        looked_at.append(row)
        return photos[groups[row]]

    ((row, others),) = find_near_copies(features(groups), [3], look)
    assert row == 3 and set(groups[others]) == {0}
    assert CHECKS - 10 < len(others) <= CHECKS and len(looked_at) == 2 * CHECKS


def test_an_image_without_copies_costs_no_more_than_its_misses() -> None:
    photos, looked_at = [at_a_glance(textured(seed)) for seed in range(MISSES + 5)], list[int]()

    def look(row: int) -> Glance:
        looked_at.append(row)
        return photos[row]

    assert list(find_near_copies(features(np.arange(len(photos))), [0], look)) == [(0, [])]
    assert len(looked_at) == 2 * MISSES


def test_one_image_alone_has_no_copies() -> None:
    assert list(find_near_copies(np.ones((1, 4)), [0], lambda row: at_a_glance(textured(row)))) == [(0, [])]
