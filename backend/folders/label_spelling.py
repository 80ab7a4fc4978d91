"""Labels that differ only in capital and small letters, as several annotators write them."""

from __future__ import annotations

from collections.abc import Sequence

from backend.label_studio.labels import LabelConfig


def other_spelling(missing: Sequence[str], labels: LabelConfig) -> str:
    """What a labelling config has in other letters of the names that it lacks, and how that label takes the objects."""
    known = {label.casefold(): label for label in labels.classes}
    pairs = [(name, known[name.casefold()]) for name in missing if name.casefold() in known]
    told = ", ".join(f"predicted_values={name!r} at its label {label!r} takes {name!r}" for name, label in pairs)
    return f" ({told})" if told else ""


def twins(labels: LabelConfig) -> list[str]:
    """One line for each group of labels that are the same in small letters."""
    groups: dict[str, list[str]] = {}
    for label in labels.classes:
        groups.setdefault(label.casefold(), []).append(label)
    return [
        f"the labels {' and '.join(map(repr, same))} differ in letters only and are classes of their own; if they are "
        "meant to be one, name them alike in the annotations and import those into another project"
        for same in groups.values()
        if len(same) > 1
    ]
