from __future__ import annotations

import base64
import resource
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from model.errors import BadRecord
from model.formats import supervisely
from model.formats.masks import check_runs, cropped_mask, decode_base64, decode_png, encode_png, mask_parts
from model.geometry import polygons_to_mask

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(MASKS)
def test_any_mask_survives_as_png(mask: np.ndarray) -> None:
    for mode in ("1", "P"):
        assert np.array_equal(decode_png(encode_png(mask, mode), mask.shape), mask)
    if not mask.all():
        assert np.array_equal(decode_png(encode_png(mask, "RGBA"), mask.shape), mask)


@given(MASKS)
def test_any_mask_survives_as_a_crop(mask: np.ndarray) -> None:
    if mask.any():
        crop, left_top = cropped_mask(mask_parts(mask, (0, 0), mask.shape), mask.shape)
        assert crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()
        assert np.array_equal(polygons_to_mask(mask_parts(crop, left_top, mask.shape), mask.shape), mask)


@given(MASKS, st.integers(-9, 9), st.integers(-9, 9))
def test_of_a_mask_that_reaches_out_what_lies_inside_counts(mask: np.ndarray, left: int, top: int) -> None:
    size_hw = (5, 6)
    wanted = np.zeros((40, 40), bool)
    wanted[top + 10 : top + 10 + mask.shape[0], left + 10 : left + 10 + mask.shape[1]] = mask
    wanted = wanted[10:15, 10:16]
    if wanted.any():
        assert np.array_equal(polygons_to_mask(mask_parts(mask, (left, top), size_hw), size_hw), wanted)
    else:
        with pytest.raises(BadRecord, match="delete it"):
            mask_parts(mask, (left, top), size_hw)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_an_opaque_image_is_a_mask_by_its_colour(mode: str) -> None:
    grey, content = np.array([[0, 255], [7, 0]], np.uint8), BytesIO()
    image = Image.fromarray(grey.astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(content, "PNG")
    assert np.array_equal(decode_png(content.getvalue(), (2, 2)), grey > 0)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5)])
def test_a_mask_larger_than_its_image_is_not_unpacked(shape: tuple[int, int]) -> None:
    with pytest.raises(BadRecord, match=f"its mask is {shape[1]} x {shape[0]}, its image 4 x 4 pixels"):
        decode_png(encode_png(np.ones(shape, bool)), (4, 4))


def test_a_zlib_bomb_takes_no_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj()
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(24)) + packer.flush()  # 400 MB
    data = base64.b64encode(bomb).decode()
    entry = f'{{"classTitle": "a", "bitmap": {{"data": "{data}", "origin": [0, 0]}}}}'
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "a.jpg.json").write_text(f'{{"size": {{"height": 9, "width": 9}}, "objects": [{entry}]}}')
    before, problems = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    assert len(list(supervisely.read(tmp_path, problems.append))) == 1
    assert len(problems) == 1 and "its mask is no image" in problems[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB


def test_base64_may_be_wrapped() -> None:
    assert decode_base64("YWJj\nZGVm") == b"abcdef"
    for broken in ("YWJ", "YW?j", None, 3):
        with pytest.raises(BadRecord, match="wanted base64 text, got"):
            decode_base64(broken)


def test_runs_whose_sum_wraps_around_are_refused() -> None:
    runs = np.array([2**63 - 1, 2**63 - 1, 640002], np.int64)
    with pytest.raises(BadRecord, match=f"its RLE covers {2**64 + 640000} pixels, its image has 640000"):
        check_runs(runs, 640000, "its RLE", "its image")
