"""Files that call themselves images, and would have another program run, or fill the memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

from model.errors import BadImageFile, BadRecord, ModelError
from model.formats.masks import decode_png
from model.image_files import decode_image, suffix_of, upright_size
from tests.model.test_image_files import saved


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a Ghostscript in the path leaves once it was started."""
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return started


@pytest.mark.parametrize(
    ("look", "refused", "reason"),
    [
        (lambda content: decode_image(content, "a.jpg", 1), BadImageFile, r"a\.jpg cannot be read \(it is no image\)"),
        (lambda content: upright_size(content, "a.jpg", 1), BadImageFile, r"a\.jpg cannot be read \(it is no image\)"),
        (lambda content: decode_png(content, (9, 9)), BadRecord, "its mask is no image"),
    ],
    ids=["pixels", "size", "mask"],
)
def test_postscript_is_no_image_and_no_program_is_started_for_it(
    ghostscript: Path, look: Callable[[bytes], object], refused: type[ModelError], reason: str
) -> None:
    content = saved(Image.new("RGB", (8, 6), "red"), "EPS")
    with pytest.raises(refused, match=reason):
        look(content)
    assert not ghostscript.exists()
    assert suffix_of(content) == ""


LARGE = saved(Image.new("1", (2000, 1500)), "PNG")
ICONS = {
    "ICO": struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(LARGE), 22) + LARGE,
    "ICNS": b"icns" + struct.pack(">I4sI", 16 + len(LARGE), b"ic07", 8 + len(LARGE)) + LARGE,
}


@pytest.mark.parametrize("content", ICONS.values(), ids=ICONS)
def test_an_icon_is_not_unpacked_beyond_the_limit(content: bytes) -> None:
    for look in (decode_image, upright_size):
        with pytest.raises(BadImageFile, match=r"a\.jpg cannot be read \(it is no image\)"):
            look(content, "a.jpg", 1)
    assert suffix_of(content) == ""
