from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.project.config import NETWORKS
from backend.project.workplace import Workplace
from backend.rounds.folder import Round
from backend.rounds.judging import evaluate_round
from backend.rounds.learning import train_round
from backend.rounds.plan import Plan, _kept_input, plan_round, proposal, read_plan
from model.engines.base import EngineConfig
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.networks import with_facts
from model.engines.torchvision.timm_networks import LITE
from model.errors import BadCheckpoint, BadEngine
from model.files import write_json
from model.records import Record
from model.registry import VersionFields
from model.stored_weights import add_version
from tests.backend.gpus import pretend_gpus
from tests.backend.round_places import quiet, read_round, workplace

PARENTS = EngineConfig("nano", image_size=(240, 320), anchor_sizes=(8.0, 16.0, 32.0, 64.0, 128.0))

RECORDS = [Record("1", (60, 80), ())]


def publish(place: Workplace, current: Round) -> str:
    """Train and evaluate a round, and serve what came of it."""
    train_round(place, current, quiet)
    version = evaluate_round(place, current, quiet)
    place.folder.registry.set_current(version.name)
    return version.name


def serve(place: Workplace, config: EngineConfig) -> None:
    """Serve a version of a network, with weights that nobody looks at."""
    fields = VersionFields(1, ("leaf",), place.config.engine, asdict(config), {}, None, "", True, "")
    place.folder.registry.set_current(add_version(place.folder.registry, fields, {"w": torch.zeros(1)}).name)


@pytest.mark.parametrize(
    ("size", "smallest_anchor", "is_kept"),
    [
        ((240, 320), 8.0, True),
        ((300, 400), 11.3, True),
        ((384, 512), 8.0, False),
        ((240, 320), 16.0, False),
        ((240, 320), 4.0, False),
    ],
)
def test_the_parents_input_is_kept_until_the_objects_have_clearly_changed(
    size: tuple[int, int], smallest_anchor: float, is_kept: bool
) -> None:
    anchors = tuple(smallest_anchor * 2.0**level for level in range(5))
    wanted = replace(PARENTS, image_size=size, anchor_sizes=anchors)
    assert _kept_input(wanted, PARENTS) == (PARENTS if is_kept else wanted)


def test_the_parents_anchors_are_not_kept_where_large_objects_have_joined_the_small_ones() -> None:
    further_apart = replace(PARENTS, anchor_sizes=(8.0, 19.5, 47.3, 115.0, 280.0))
    assert _kept_input(further_apart, PARENTS) == further_apart
    assert _kept_input(PARENTS, further_apart) == PARENTS


def test_an_input_that_does_not_adapt_is_no_reason_to_keep_anything() -> None:
    fixed = EngineConfig("nano")
    assert _kept_input(fixed, PARENTS) is fixed


def test_more_objects_are_looked_for_as_soon_as_more_are_annotated() -> None:
    crowded = replace(PARENTS, detections_per_image=400)
    assert _kept_input(crowded, PARENTS) == crowded and _kept_input(PARENTS, crowded) == PARENTS


def test_a_plan_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    place = workplace(tmp_path, engine="torchvision", network_config="nano", minority_classes=["spot"])
    current = read_round(place, 1, {task: "a" for task in range(1, 7)})
    records = [Record(str(task), (60, 80), ()) for task in range(1, 7)]
    made = plan_round(place, current, records)
    assert isinstance(made, Plan) and made.engine.image_size is not None and made.training.minority_classes == ("spot",)
    assert read_plan(current) == made


def test_what_a_round_has_decided_holds_whatever_the_settings_become(tmp_path: Path) -> None:
    current = read_round(workplace(tmp_path), 1, {1: "a", 2: "a"})
    made = plan_round(workplace(tmp_path, train_iterations_base=7), current, RECORDS)
    assert made.training.iterations == 7
    assert plan_round(workplace(tmp_path, train_iterations_base=9), current, RECORDS) == made


def test_new_and_edited_annotations_are_what_the_parent_does_not_know(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=3)
    assert publish(place, read_round(place, 1, {1: "a", 2: "a", 3: "a"})) == "maskal-r1"
    second = read_round(place, 2, {1: "a", 2: "edited", 3: "a", 4: "a"})
    plan = plan_round(place, second, RECORDS)
    assert (plan.parent, plan.new_images) == ("maskal-r1", frozenset({"2", "4"}))


def test_a_round_has_a_seed_of_its_own_and_is_shorter_from_a_version_on(tmp_path: Path) -> None:
    place = workplace(tmp_path, network_config="nano")
    first = plan_round(place, read_round(place, 1, {1: "a", 2: "a"}), RECORDS).training
    serve(place, EngineConfig("nano"))
    later = plan_round(place, read_round(place, 2, {1: "a", 2: "a"}), RECORDS).training
    assert (first.seed, later.seed) == (1, 2) and later.iterations < first.iterations


def test_an_image_that_was_only_evaluated_before_is_new_to_training(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=3)
    publish(place, read_round(place, 1, {1: "a", 2: "a", 3: "a"}, val=1))
    second = read_round(place, 2, {1: "a", 2: "a", 3: "a"})
    assert plan_round(place, second, RECORDS).new_images == frozenset({"3"})


def test_without_warm_start_or_with_another_engine_there_is_no_parent(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=3)
    publish(place, read_round(place, 1, {1: "a", 2: "a"}))
    second = read_round(place, 2, {1: "a", 2: "a", 3: "a"})
    for settings in ({"warm_start": False}, {"engine": "torchvision", "network_config": "nano"}):
        assert plan_round(workplace(tmp_path, **settings), second, RECORDS).parent is None
        (second.path / "plan.json").unlink()


def test_an_unset_network_follows_the_served_versions(tmp_path: Path) -> None:
    serve(workplace(tmp_path, engine="torchvision"), EngineConfig("nano"))
    current = read_round(workplace(tmp_path), 2, {1: "a", 2: "a"})

    def network(**settings: Any) -> tuple[str, str | None]:
        plan = plan_round(workplace(tmp_path, engine="torchvision", device="cpu", **settings), current, RECORDS)
        (current.path / "plan.json").unlink()
        return plan.engine.network, plan.parent

    assert network() == ("nano", "maskal-r1")
    assert network(warm_start=False) == ("nano", None)
    assert network(network_config="lite") == ("lite", None), "a changed network starts from its own weights"


def test_a_network_goes_on_as_the_served_version_has_it(tmp_path: Path) -> None:
    """Also where a later release builds another network under its name."""
    facts = {**LITE.as_json(), "width": 32}
    for settings in ({}, {"network_config": "lite"}):
        place = workplace(tmp_path / str(len(settings)), engine="torchvision", device="cpu", **settings)
        serve(place, EngineConfig("lite", network_facts=facts))
        plan = plan_round(place, read_round(place, 2, {1: "a", 2: "a"}), RECORDS)
        assert (plan.parent, plan.engine.network_facts) == ("maskal-r1", facts)


def test_a_new_project_on_a_cpu_gets_lite_and_keeps_what_it_has_seen(tmp_path: Path) -> None:
    place = workplace(tmp_path, engine="torchvision", device="cpu")
    plan = plan_round(place, read_round(place, 1, {1: "a", 2: "a"}), RECORDS)
    assert (plan.engine.network, plan.engine.network_facts) == ("lite", LITE.as_json())
    assert (plan.training.freeze_at, plan.training.backbone_rate, plan.note) == (3, 0.1, "")
    blind = workplace(tmp_path, engine="torchvision", device="cpu", pretrained_weights="none")
    plan = plan_round(blind, read_round(blind, 2, {1: "a", 2: "a"}), RECORDS)
    assert (plan.training.freeze_at, plan.training.backbone_rate) == (0, 1.0)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_coco(engine: TorchvisionEngine) -> None:
        raise BadCheckpoint("the COCO weights could not be downloaded; fetch https://their.address elsewhere")

    monkeypatch.setattr(TorchvisionEngine, "load_coco", load_coco)


def test_a_gpu_project_that_chose_nothing_gets_lite_where_cocos_weights_cannot_be_had(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, (8, 9))
    place = workplace(tmp_path, engine="torchvision", device="cuda")
    current = read_round(place, 1, {1: "a", 2: "a"})
    plan = plan_round(place, current, RECORDS)
    assert plan.engine.network == "lite" and plan.training.freeze_at == 3
    assert plan.note.startswith("lite in place of maskrcnn_resnet50_fpn_v2: the COCO weights could not be downloaded")
    assert read_plan(current) == plan


@pytest.mark.parametrize(
    "settings", [{"network_config": "maskrcnn_resnet50_fpn_v2"}, {"pretrained_weights": "COCO"}], ids=str
)
def test_a_project_that_chose_is_refused_with_the_file_to_fetch(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.setitem(NETWORKS, "cpu", "maskrcnn_resnet50_fpn_v2")
    place = workplace(tmp_path, engine="torchvision", device="cpu", **settings)
    with pytest.raises(BadCheckpoint, match=r"fetch https://their\.address elsewhere"):
        train_round(place, read_round(place, 1, {1: "a", 2: "a"}), quiet)


def test_a_better_network_is_proposed_until_somebody_chooses(tmp_path: Path) -> None:
    place = workplace(tmp_path, engine="torchvision")
    assert proposal(place.config, place.folder) is None
    serve(place, EngineConfig("nano"))
    told = str(proposal(place.config, place.folder))
    assert "goes on with the network nano" in told
    assert "`maskal config --project 1 --set network_config=lite`" in told
    chosen = workplace(tmp_path, engine="torchvision", network_config="nano")
    assert proposal(chosen.config, place.folder) is None


def test_a_parent_whose_round_was_deleted_leaves_every_image_new(tmp_path: Path) -> None:
    place = workplace(tmp_path, train_iterations_base=3)
    first = read_round(place, 1, {1: "a", 2: "a"})
    publish(place, first)
    for path in first.path.iterdir():
        path.unlink()
    write_json(first.path / "state.json", vars(first.state))
    assert plan_round(place, read_round(place, 2, {1: "a", 2: "a"}), RECORDS).new_images == frozenset({"1", "2"})


def test_a_network_whose_own_file_is_gone_is_built_as_the_served_version_knows_it(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true}\nINPUT: {MIN_SIZE_TEST: 400}\n")
    known = with_facts(EngineConfig(str(own)))
    own.unlink()
    place = workplace(tmp_path, engine="torchvision", network_config=str(own))
    current = read_round(place, 2, {1: "a", 2: "a"})
    with pytest.raises(BadEngine, match="cannot read the Detectron2 config"):
        plan_round(place, current, RECORDS)
    serve(place, known)
    plan = plan_round(place, current, RECORDS)
    assert (plan.parent, plan.engine.network) == ("maskal-r1", str(own))
    assert plan.engine.network_facts == known.network_facts and plan.engine.network_facts["shortest"] == 400


def test_a_file_that_says_something_else_since_makes_another_network(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true}\n")
    place = workplace(tmp_path, engine="torchvision", network_config=str(own))
    served = VersionFields(
        1, ("leaf",), "torchvision", asdict(with_facts(EngineConfig(str(own)))), {}, None, "", True, ""
    )
    place.folder.registry.set_current(add_version(place.folder.registry, served, {"w": torch.zeros(1)}).name)
    own.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true, RESNETS: {STRIDE_IN_1X1: false}}\n")
    plan = plan_round(place, read_round(place, 2, {1: "a", 2: "a"}), RECORDS)
    assert plan.parent is None and plan.engine.network_facts["stride_in_1x1"] is False
