"""What an event of Label Studio's means: a hint that something may have changed, never more."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Decision(Enum):
    """What to do about an event."""

    IGNORE = "ignore"
    EXAMINE = "examine"
    TRAIN = "train"


DECISIONS = {
    "ANNOTATION_CREATED": Decision.EXAMINE,
    "ANNOTATIONS_CREATED": Decision.EXAMINE,
    "ANNOTATION_UPDATED": Decision.EXAMINE,
    "ANNOTATION_DELETED": Decision.EXAMINE,
    "ANNOTATIONS_DELETED": Decision.EXAMINE,
    "TASKS_CREATED": Decision.EXAMINE,
    "TASKS_DELETED": Decision.EXAMINE,
    "PROJECT_UPDATED": Decision.EXAMINE,
    "START_TRAINING": Decision.TRAIN,
}


def decide(payload: Mapping[str, Any]) -> Decision:
    """Read nothing but the action's name; what has really changed is asked from Label Studio later."""
    return DECISIONS.get(str(payload.get("action")), Decision.IGNORE)
