from __future__ import annotations

import pytest

from backend.web.webhooks import Decision, decide


@pytest.mark.parametrize(
    "action",
    [
        "ANNOTATION_CREATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "PROJECT_UPDATED",
    ],
)
def test_every_change_is_looked_at(action: str) -> None:
    assert decide({"action": action, "annotation": {"result": "not even read"}}) is Decision.EXAMINE


def test_the_button_asks_for_training() -> None:
    assert decide({"action": "START_TRAINING"}) is Decision.TRAIN


@pytest.mark.parametrize("payload", [{}, {"action": None}, {"action": "LABEL_LINK_CREATED"}, {"action": ["x"]}])
def test_anything_else_is_ignored(payload: dict) -> None:
    assert decide(payload) is Decision.IGNORE
