"""Images that are transparent in parts, as they lie on Label Studio's white ground."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from model.image_files import decode_image
from tests.model.test_image_files import saved, scene


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("AVIF", "RGBA")]
)
def test_what_is_transparent_is_white_whatever_is_hidden_there(form: str, mode: str) -> None:
    grey = np.full((32, 32, 4), 90, np.uint8)
    grey[..., 3] = np.repeat([255, 0], 16)[:, None]
    image = Image.fromarray(grey)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    options = {"PNG": {}, "WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100}}[form]
    pixels = decode_image(saved(image, form, **options), "a", 1).astype(int)
    assert np.abs(pixels[:14] - 90).max() < 4 and np.abs(pixels[18:] - 255).max() < 4
    assert np.asarray(Image.open(io.BytesIO(saved(image, form, **options))).convert("RGB"))[20, 5].max() < 100


def test_half_transparent_is_half_white() -> None:
    half = np.full((4, 4, 4), (100, 0, 0, 128), np.uint8)
    assert np.abs(decode_image(saved(half, "PNG"), "a", 1).astype(int) - (177, 127, 127)).max() <= 1


def test_the_fourth_band_of_a_tiff_hides_nothing() -> None:
    bands = np.dstack([scene(), np.zeros((64, 96), np.uint8)])
    assert (decode_image(saved(bands, "TIFF"), "a", 1) == scene()).all()
