"""The gate: a new version is served only if it is not significantly worse than those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from model.judging.comparison import MIN_IMAGES_WITH_OBJECTS, ap_difference, images_with_objects
from model.judging.evaluation import Detections, Truth, any_class, on_classes

MIN_IMAGES = 10
DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Contender:
    """A version's classes and what it found in the validation images, in the truths' order."""

    classes: tuple[str, ...]
    found: Sequence[Detections]


@dataclass(frozen=True)
class Verdict:
    """Whether a version may be served and why; comparisons as they go into `version.json`."""

    is_promoted: bool
    reason: str
    comparisons: tuple[dict[str, Any], ...] = ()


def judge(
    truths: Sequence[Truth],
    new: Contender,
    others: Mapping[str, Contender],
    seed: int,
    groups: Sequence[str] | None = None,
) -> Verdict:
    """Compare a new version with each other one on the same validation images; truths have the new one's labels.

    `groups` as in `ap_difference`.

    Refused if the upper 95 % bound of the difference in mask AP (paired bootstrap over images, 1,000
    draws) is below 0 for any of them. Compared on common classes, without regard to class if none is
    common. Under 10 validation images, or 5 that show an object to compare, it is promoted, and the reason says so.
    """
    if not others:
        return Verdict(True, "first version")
    if len(truths) < MIN_IMAGES:
        return Verdict(True, f"only {len(truths)} validation images, {MIN_IMAGES} are needed to compare")
    compared = [_compare(truths, new, other, seed, groups) for other in others.values()]
    comparisons = tuple({"version": name, **row} for name, row in zip(others, compared, strict=True) if row is not None)
    if not comparisons:
        few = f"fewer than {MIN_IMAGES_WITH_OBJECTS} of the {len(truths)} validation images show an object to compare"
        return Verdict(True, few)
    worse = [comparison for comparison in comparisons if comparison["upper"] < 0]
    told = "; ".join(
        f"mask AP {c['mean']:+.3f} ({c['lower']:+.3f} to {c['upper']:+.3f}) against {c['version']}"
        for c in worse or comparisons
    )
    word = "significantly worse" if worse else "not significantly worse"
    return Verdict(not worse, f"{word} on {len(truths)} validation images: {told}", comparisons)


def _compare(
    truths: Sequence[Truth], new: Contender, old: Contender, seed: int, groups: Sequence[str] | None
) -> dict[str, Any] | None:
    """The difference of two versions (JSON); None where too few images show an object to compare."""
    common = tuple(name for name in new.classes if name in old.classes)
    if common:
        truths = [on_classes(truth, new.classes, common) for truth in truths]
        found = [[on_classes(d, c.classes, common) for d in c.found] for c in (old, new)]
    else:
        truths = [any_class(truth) for truth in truths]
        found = [[any_class(d) for d in c.found] for c in (old, new)]
    is_enough = images_with_objects(truths) >= MIN_IMAGES_WITH_OBJECTS
    classes, (old_found, new_found) = max(len(common), 1), found
    draw = partial(ap_difference, num_classes=classes, draws=DRAWS, seed=seed, groups=groups)
    difference = draw(truths, old_found, new_found) if is_enough else None
    if difference is None:
        return None
    rounded = {key: round(value, 5) for key, value in asdict(difference).items()}
    return {**rounded, "classes": list(common)}
