"""A Label Studio that is away, slow, failing, or no longer knows us, in the middle of each step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tenacity import nap

from backend.project.credentials import store_label_studio
from tests.backend.configs import POLYGONS
from tests.faults.test_kills import served_and_due
from tests.faults.world import World

STEPS = ("read", "train", "evaluate", "rank", "push", "make current", "publish")
CALLING = ("read", "rank", "push", "publish")
"""Steps that ask Label Studio for something whatever is in the caches."""


@pytest.fixture(autouse=True)
def no_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are tried again at once."""
    monkeypatch.setattr(nap.time, "sleep", lambda seconds: None)


def set_down(world: World, is_down: bool) -> None:
    world.server.is_down = is_down


def set_revoked(world: World, is_revoked: bool) -> None:
    world.server.is_revoked = is_revoked
    if not is_revoked:
        store_label_studio(world.settings, world.server.url, "a-new-key")


def set_deleted(world: World, is_deleted: bool) -> None:
    world.server.is_deleted = is_deleted


FAULTS: dict[str, tuple[Callable[[World, bool], None], str]] = {
    "down": (set_down, "no answer from Label Studio at"),
    "key revoked": (set_revoked, "check the API key"),
    "project deleted": (set_deleted, "no longer exists in Label Studio"),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_gone_in_a_step_and_comes_back(world: World, fault: str, step: str) -> None:
    change, message = FAULTS[fault]
    served_and_due(world)
    world.at(step, lambda: change(world, True))
    world.looks(6)
    assert message in world.trouble()
    if step in CALLING:
        assert world.rounds()[-1].is_unfinished, "a fault that lasts costs no attempt"
    world.assert_queue_is_complete()
    change(world, False)
    world.annotate(13)
    world.assert_recovers()
    assert all(r.state.attempts == 0 for r in world.rounds())


def test_every_third_call_fails_and_nothing_is_lost_or_doubled(world: World) -> None:
    world.server.fails_every = 3
    world.assert_recovers()


@pytest.mark.slow
def test_slow_calls_only_take_their_time(world: World) -> None:
    world.server.slow_s = 5.0
    world.looks(1)
    world.server.slow_s = 0.0
    world.assert_recovers()
    assert [r.state.attempts for r in world.rounds()] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_the_labelling_config_changes_in_a_step(world: World, step: str) -> None:
    served_and_due(world)
    changed = POLYGONS.replace('<Label value="leaf"/>', '<Label value="leaf"/><Label value="stem"/>')
    world.at(step, lambda: setattr(world.server, "label_config", changed))
    world.assert_recovers()
    assert world.folder.registry.get(world.followed).classes in (("leaf", "spot"), ("leaf", "stem", "spot"))
    world.annotate(13)
    world.assert_recovers()
    assert set(world.folder.registry.get(world.followed).classes) == {"leaf", "stem", "spot"}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_labelling_config_without_shapes_stops_a_project_until_it_is_mended(world: World, step: str) -> None:
    served_and_due(world)
    world.at(step, lambda: setattr(world.server, "label_config", '<View><Image name="image" value="$photo"/></View>'))
    world.looks(4)
    assert "needs a PolygonLabels" in world.trouble()
    world.server.label_config = POLYGONS
    world.assert_recovers()
