from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from backend.rounds.seen_objects import SeenImage, encoded_row, open_seen, read_seen, seen_image
from model.engines.torchvision.frozen import FeatureMaps
from model.instances import Proposals
from sampling.coverage import ObjectsOfImage


def maps() -> FeatureMaps:
    """Of an image of 64 x 64, whose left half is 1 in the only channel of each level, the right one 3."""
    levels = [np.ones((1, side, side), np.float16) for side in (8, 4)]
    for level in levels:
        level[:, :, level.shape[2] // 2 :] = 3
    return FeatureMaps(tuple(levels), (64, 64))


def proposals(*rows: tuple[list[float], list[float]]) -> Proposals:
    boxes, probabilities = zip(*rows, strict=True) if rows else ([], [])
    return Proposals(np.array(boxes, np.float32).reshape(-1, 4), np.array(probabilities, np.float32).reshape(-1, 2))


def test_each_proposal_has_the_features_of_its_box() -> None:
    seen = seen_image(maps(), proposals(([0, 0, 14, 64], [0.9, 0.0]), ([44, 0, 64, 64], [0.0, 0.9])))
    left, right = seen.objects.features
    assert left == pytest.approx([1, 1, 1, 1]) and right == pytest.approx([3, 3, 3, 3])
    assert seen.whole == pytest.approx([2, 3, 2, 3])


def test_doubt_is_between_two_classes_or_whether_there_is_anything() -> None:
    box = [0.0, 0, 20, 20]
    sure, torn, faint, hardly = seen_image(
        maps(), proposals((box, [0.97, 0.01]), (box, [0.5, 0.5]), (box, [0.5, 0.0]), (box, [0.06, 0.0]))
    ).objects.uncertainties
    assert sure < 0.1 and hardly < 0.2 and torn == pytest.approx(1) and faint == pytest.approx(1)


def test_where_nothing_is_proposed_patches_count() -> None:
    found = seen_image(maps(), proposals()).objects
    assert len(found) == 4 and (found.uncertainties == 0.5).all()
    assert found.probabilities.sum(1) == pytest.approx(np.ones(4))
    assert found.features[:, 0] == pytest.approx([1, 3, 1, 3], abs=0.3)


def image(count: int, seed: int) -> SeenImage:
    rng = np.random.default_rng(seed)
    return SeenImage(ObjectsOfImage(rng.random((count, 6)), rng.random((count, 3)), rng.random(count)), rng.random(6))


def test_what_is_kept_comes_back_in_half_precision(tmp_path: Path) -> None:
    path, kept = tmp_path / "seen.bin", {7: image(3, 0), 2**40: image(0, 1), 9: image(50, 2)}
    path.write_bytes(b"".join(encoded_row(task, seen) for task, seen in kept.items()))
    found = read_seen(path)
    assert list(found) == list(kept)
    for task, seen in kept.items():
        assert found[task].whole == pytest.approx(seen.whole, abs=1e-3)
        for name in ("features", "probabilities", "uncertainties"):
            ours, theirs = getattr(seen.objects, name), getattr(found[task].objects, name)
            assert ours.shape == theirs.shape and theirs == pytest.approx(ours, abs=1e-3)
    assert path.stat().st_size < 53 * 2 * 10 + 3 * 60, "two bytes a number"


def test_the_last_row_of_a_task_counts_and_one_cut_off_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "seen.bin"
    path.write_bytes(encoded_row(1, image(2, 0)) + encoded_row(1, image(5, 1)) + encoded_row(2, image(4, 2))[:-3])
    with caplog.at_level(logging.WARNING):
        found = read_seen(path)
    assert list(found) == [1] and len(found[1].objects) == 5
    assert "ends in a row that cannot be read; they are looked at again" in caplog.text
    with open_seen(path) as file:
        file.write(encoded_row(2, image(3, 4)))
    assert {task: len(seen.objects) for task, seen in read_seen(path).items()} == {1: 5, 2: 3}, "nothing lies between"


def test_no_file_is_nothing_seen(tmp_path: Path) -> None:
    assert read_seen(tmp_path / "none.bin") == {}
    (tmp_path / "empty.bin").touch()
    assert read_seen(tmp_path / "empty.bin") == {}
