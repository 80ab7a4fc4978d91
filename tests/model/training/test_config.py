from __future__ import annotations

from model.training import config, loop


def test_each_optimizer_that_may_be_chosen_can_be_made() -> None:
    assert tuple(loop.OPTIMIZERS) == config.OPTIMIZERS
