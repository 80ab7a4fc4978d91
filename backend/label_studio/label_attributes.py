"""What a labelling config says of its labels beside their names: other names, and the scores that pre-labels need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from backend.errors import BadLabelConfig


def score_thresholds(elements: Sequence[ElementTree.Element]) -> dict[str, float]:
    """`model_score_threshold` by the control's name, which the SDK's parser leaves out."""
    thresholds = {}
    for element in elements:
        text = element.get("model_score_threshold")
        if text is None:
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not 0 <= value <= 1:
            raise BadLabelConfig(
                f"model_score_threshold of the tag {element.get('name')!r} must be a number from 0 to 1, got {text!r}; "
                "correct it in the project's settings under Labeling Interface"
            )
        thresholds[str(element.get("name"))] = value
    return thresholds


def predicted_values(tags: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Labels by the names of a model's classes that their `predicted_values` list."""
    mapping = {}
    for tag in tags:
        for label, attributes in tag["labels_attrs"].items():
            for value in attributes.get("predicted_values", "").split(","):
                if value.strip():
                    mapping[value.strip()] = label
    return mapping


def other_names(tags: Iterable[Mapping[str, Any]], classes: Collection[str]) -> dict[str, str]:
    """Those of the classes by what else stands for them: the `value` of an alias, and the name without blanks around.

    Label Studio's editor finds a label by its alias and by its value, and shows both as the same.
    """
    mapping: dict[str, str] = {}
    for tag in tags:
        for label, attributes in tag["labels_attrs"].items():
            value = attributes.get("value") or label
            for name in (value, value.strip(), label.strip()):
                if label in classes and name and name not in classes:
                    mapping.setdefault(name, label)
    return mapping
