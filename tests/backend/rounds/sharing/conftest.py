"""A project of ten tasks, ranked in pieces of two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.project.config import ProjectConfig
from backend.project.folder import connect_folder
from backend.project.workplace import Workplace
from backend.rounds import sharing
from backend.rounds.folder import Round
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.fake_label_studio import FakeLabelStudio, place_of
from tests.backend.shared_ranking import PIECE, TASKS, Watched

COLOURS = torch.tensor([[40, 160, 60], [120, 60, 30]]) / 255


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PIECE", PIECE)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A project of ten open tasks, with a version that is to rank them."""
    folder = connect_folder(tmp_path, "1.1")
    folder.store_config(ProjectConfig(engine="fake", mcd_iterations=3))
    fields = VersionFields(1, ("leaf", "spot"), "fake", {"network": "fake"}, {}, None, "x", True, "")
    add_version(folder.registry, fields, {"colours": COLOURS})
    return place_of(folder, FakeLabelStudio(folder.uid, TASKS, 0), Watched())


@pytest.fixture
def current(place: Workplace) -> Round:
    made = Round(place.folder.rounds / "1")
    made.save()
    return made
