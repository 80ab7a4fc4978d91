from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.errors import BadSetting, ProcessFailed
from backend.project.workplace import Workplace
from backend.rounds import group, judging, starts
from backend.rounds.folder import CANCELLABLE, Round
from backend.rounds.group import processes_of, train_together
from backend.rounds.history import read_history
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from model import checkpoints
from model.engines.loader import ENGINES
from model.files import read_json
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.configs import POLYGONS
from tests.backend.gpus import pretend_gpus
from tests.backend.round_places import COLOURS, Photos, label_of, quiet, read_round, region_of, workplace

TRUTH = torch.tensor([COLOURS["leaf"], COLOURS["spot"]]) / 255
TASKS = {task: "a" for task in range(1, 9)}


class Killed(BaseException):
    """The process is gone."""


def kill_at(limit: float, name: str = "train") -> Any:
    def report(step: str, share: float, **details: Any) -> None:
        if step == name and share >= limit:
            raise Killed

    return report


def colours(current: Round) -> torch.Tensor:
    return checkpoints.load(current.weights)[0]["colours"]


def serve(place: Workplace, number: int, steps: int) -> Round:
    current = read_round(place, number, TASKS)
    train_round(place, current, quiet)
    place.folder.registry.set_current(evaluate_round(place, current, quiet).name)
    return current


def test_a_round_learns_what_was_annotated_and_leaves_what_it_chose(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=80)
    current = read_round(place, 1, TASKS)
    train_round(place, current, quiet)
    assert torch.allclose(colours(current), TRUTH, atol=0.15)
    facts = read_json(current.path / "training.json")
    assert (facts["iterations"], facts["steps"], facts["objects"]) == (80, 80, {"leaf": 4, "spot": 4})
    assert not current.checkpoint.exists()


def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = {"train_iterations_base": 30, "checkpoint_period": 10}
    whole, torn = (workplace(tmp_path / name, **settings) for name in ("whole", "torn"))
    undisturbed = read_round(whole, 1, TASKS)
    train_round(whole, undisturbed, quiet)
    current = read_round(torn, 1, TASKS)
    with pytest.raises(Killed):
        train_round(torn, current, kill_at(0.5))
    first: list[float] = []
    train_round(torn, Round(current.path), lambda step, share, **details: first.append(share))
    assert round(first[0] * 30) == 11
    assert torch.equal(colours(current), colours(undisturbed))


def test_a_round_that_trains_again_makes_the_same_weights(tmp_path: Path) -> None:
    """Also where nothing gives the network its first ones."""

    def weights(name: str) -> dict[str, torch.Tensor]:
        settings = {"engine": "torchvision", "network_config": "nano", "pretrained_weights": "none"}
        place = workplace(tmp_path / name, **settings, train_iterations_base=1, train_batch_size=1)
        current = read_round(place, 1, {1: "a"})
        train_round(place, current, quiet)
        return checkpoints.load(current.weights)[0]

    first, again = weights("first"), weights("again")
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("images", "looks"), [(9, []), (10, [20])])
def test_training_is_measured_as_it_goes_on_enough_validation_images(
    tmp_path: Path, images: int, looks: list[int]
) -> None:
    place = workplace(tmp_path, train_iterations_base=20)
    current = read_round(place, 1, {task: "a" for task in range(1, 3 + images)}, val=images)
    train_round(place, current, quiet)
    assert [step for step, _ in read_json(current.path / "training.json")["evaluations"]] == looks


def test_without_replay_only_what_is_new_is_shown(tmp_path: Path) -> None:
    shown = set[int]()

    class Noting(Photos):
        def load(self, value: object, task_id: int) -> np.ndarray:
            shown.add(task_id)
            return super().load(value, task_id)

    place = workplace(tmp_path, train_iterations_base=4, replay=0.0)
    serve(place, 1, 4)
    place.images = Noting()
    train_round(place, read_round(place, 2, {**TASKS, 3: "edited", 9: "a"}), quiet)
    assert shown == {3, 9}


def test_a_checkpoint_that_does_not_fit_starts_anew_from_the_parents_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = workplace(tmp_path, train_iterations_base=80, checkpoint_period=1)
    serve(place, 1, 80)
    second = read_round(place, 2, TASKS)
    with pytest.raises(Killed):
        train_round(place, second, kill_at(0.1))
    second.checkpoint.write_bytes(b"torn")
    losses: list[float] = []
    with caplog.at_level(logging.WARNING):
        train_round(place, Round(second.path), lambda step, share, **details: losses.append(details["loss"]))
    assert "the training starts anew" in caplog.text
    assert losses[0] < 0.1 * first_loss(tmp_path / "fresh"), "what the parent knows is not learned again"


def test_another_network_after_memory_ran_out_starts_from_its_own_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A smaller one is what the round that waits asks for."""

    def place(network: str) -> Workplace:
        settings = {"pretrained_weights": "none", "train_iterations_base": 4, "train_batch_size": 1}
        return workplace(tmp_path, engine="torchvision", network_config=network, checkpoint_period=1, **settings)

    current = read_round(place("nano"), 1, {1: "a", 2: "a"})
    with pytest.raises(Killed):
        train_round(place("nano"), current, kill_at(0.5))
    current.note_failure(MemoryError("can't allocate memory"))
    assert "network_config" in str(current.state.error) and current.checkpoint.exists()
    with caplog.at_level(logging.WARNING):
        train_round(place("lite"), current, quiet)
    assert "the training starts anew, what it had come to is another network's" in caplog.text
    assert current.weights.exists()


def first_loss(data_dir: Path) -> float:
    place, losses = workplace(data_dir, train_iterations_base=2), []
    train_round(place, read_round(place, 1, TASKS), lambda step, share, **details: losses.append(details["loss"]))
    return losses[0]


def test_evaluation_tells_each_image_so_that_it_can_be_stopped(tmp_path: Path) -> None:
    """What reports may raise: that is how a round is cancelled."""
    place = workplace(tmp_path, train_iterations_base=80)
    current = read_round(place, 1, {task: "a" for task in range(1, 17)}, val=8)
    train_round(place, current, quiet)
    with pytest.raises(Killed):
        evaluate_round(place, current, kill_at(0.5, "evaluate"))
    assert place.folder.registry.names() == () and current.weights.exists()
    told: list[float] = []
    version = evaluate_round(place, current, lambda step, share, **details: told.append(share))
    assert told == [pytest.approx(n / 8) for n in range(1, 9)]
    assert version.metrics["per_class"]["leaf"]["instances"] == sum(label_of(t) == "leaf" for t in range(9, 17))
    boxes = version.metrics["smart_boxes"]
    assert boxes["objects"] == 8 and boxes["network"] > 0.5 and boxes["grabcut"] > 0.5


def test_validation_images_of_one_group_say_less_than_as_many_of_several(tmp_path: Path) -> None:
    """On every second plant the objects are drawn where there are none."""

    def width(folder: str, group: str) -> float:
        place = workplace(tmp_path / folder, train_iterations_base=80)
        current = read_round(place, 1, {task: "a" for task in range(1, 65)}, val=56)
        rows = [
            replace(
                row,
                group=group.format(plant=row.task // 8, task=row.task),
                regions=[region_of(row.task + (row.task // 8 % 2 if row.split == "val" else 0))],
            )
            for row in current.annotated()
        ]
        current.write_annotated(rows, POLYGONS)
        train_round(place, current, quiet)
        lower, upper = evaluate_round(place, current, quiet).metrics["interval"]["mask_ap"]
        return float(upper - lower)

    assert width("together", "plant {plant}") > 1.5 * width("apart", "photo {task}") > 0


def test_the_best_version_of_an_engine_that_is_gone_is_not_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a move from Detectron2 to a machine without it."""
    monkeypatch.setitem(ENGINES, "detectron2", ("no_such_package", "Engine"))
    place = workplace(tmp_path, train_iterations_base=80)
    fields = VersionFields(1, ("leaf",), "detectron2", {"network": "x"}, {"mask_ap": 1.0}, None, "", True, "")
    add_version(place.folder.registry, fields, {"w": torch.zeros(1)})
    serve(place, 2, 80)
    current = read_round(place, 3, {task: "a" for task in range(1, 25)}, val=12)
    train_round(place, current, quiet)
    with caplog.at_level(logging.WARNING):
        version = evaluate_round(place, current, quiet)
    assert [one["version"] for one in version.metrics["comparisons"]] == ["maskal-r2"]
    assert "is not compared with maskal-r1: engine 'detectron2' cannot be imported" in caplog.text


def test_an_evaluation_that_stopped_once_its_version_was_stored_ends_as_one_that_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError("No space left on device")

    place = workplace(tmp_path, train_iterations_base=2)
    current = read_round(place, 1, TASKS)
    train_round(place, current, quiet)
    with monkeypatch.context() as disk:
        disk.setattr(judging, "note_version", full)
        with pytest.raises(OSError, match="No space"):
            evaluate_round(place, current, quiet)
    assert evaluate_round(place, current, quiet).name == "maskal-r1"
    assert not current.weights.exists(), "the version has them"
    place.folder.registry.remove("maskal-r1")
    assert [one.version for one in read_history(place.folder).versions] == ["maskal-r1"]


def test_a_round_can_be_cancelled_while_its_start_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "TRAINING", replace(starts.TRAINING, iterations=4))
    place = workplace(tmp_path, engine="torchvision", network_config="nano")
    current = read_round(place, 1, TASKS)
    with pytest.raises(Killed):
        train_round(place, current, kill_at(0.5, "prepare"))
    assert not current.weights.exists() and "prepare" in CANCELLABLE


@pytest.mark.parametrize(
    ("settings", "processes"),
    [({}, 1), ({"train_processes": 2}, 2), ({"train_processes": 4, "train_batch_size": 8}, 4)],
)
def test_as_many_processes_train_as_the_project_asks_for(
    tmp_path: Path, settings: dict[str, Any], processes: int
) -> None:
    assert processes_of(workplace(tmp_path, device="cpu", **settings)) == processes


@pytest.mark.parametrize(
    ("gpus", "batch", "processes"), [(0, 4, 1), (1, 4, 1), (2, 4, 2), (3, 4, 2), (8, 4, 4), (5, 6, 3), (2, 1, 1)]
)
def test_a_batch_is_shared_by_as_many_gpus_as_divide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, batch: int, processes: int
) -> None:
    pretend_gpus(monkeypatch, *[(8, 9)] * gpus)
    assert processes_of(workplace(tmp_path, train_batch_size=batch)) == processes


def test_a_gpu_of_another_kind_beside_the_first_ones_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, (8, 9), (8, 9), (7, 5), (7, 5))
    assert processes_of(workplace(tmp_path, device="cuda")) == 2
    assert processes_of(workplace(tmp_path, device="cuda", train_processes=4)) == 4


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", MemoryError, "CUDA out of memory"),
        ("not enough memory for a batch of 2, from now on in 2 parts", ProcessFailed, "training.log"),
    ],
)
def test_a_group_whose_memory_ran_out_waits_as_a_single_process_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, error: type[Exception], told: str
) -> None:
    (tmp_path / "failing_launcher.py").write_text(f"import sys\nprint({said!r})\nsys.exit(1)\n")
    monkeypatch.setattr(group, "LAUNCHER", "failing_launcher")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    place = workplace(tmp_path)
    current = read_round(place, 1, {1: "a", 2: "a"})
    (current.path / "training.log").write_text("MemoryError of an attempt before\n")
    with pytest.raises(error, match=told):
        train_together(place, current, 2, lambda step, share, **details: None)


def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSetting, match=r"train_processes must divide train_batch_size \(4\), got 3"):
        processes_of(workplace(tmp_path, device="cpu", train_processes=3))
    pretend_gpus(monkeypatch, (8, 9))
    with pytest.raises(BadSetting, match="train_processes: 2 needs as many GPUs, device 'cuda' has 1"):
        processes_of(workplace(tmp_path, device="cuda", train_processes=2))
