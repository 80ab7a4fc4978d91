"""The first round on the screen: a bar over all of it, and how long it will take on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

SPANS = {
    "read": (0, 2),
    "prepare": (2, 30),
    "train": (2, 80),
    "evaluate": (80, 82),
    "rank": (82, 97),
    "push": (97, 99),
    "make current": (99, 100),
    "publish": (99, 100),
}
"""From where to where each step takes the bar, percent; by what the steps take where training is the longest."""

SURE_PERCENT = 3
"""Share of the training after which its speed tells how long all will take."""


class RoundBar:
    """Shows the progress that a round's job tells; a context manager."""

    def __init__(self) -> None:
        self.bar = tqdm(total=100, bar_format="{desc} {percentage:3.0f} % |{bar:30}| {elapsed}{postfix}")
        self.has_told = False

    def __enter__(self) -> RoundBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def show(self, progress: Mapping[str, Any] | None, elapsed_s: float) -> None:
        """Show a job's progress (its `step`, `percent` and `seconds_left`), None while it waits."""
        step, done = ("waiting", 0) if progress is None else (str(progress["step"]), int(progress["percent"]))
        start, end = SPANS.get(step, (0, 2))
        self.bar.n = max(self.bar.n, start + (end - start) * done / 100)
        self.bar.set_description_str(f"first version: {step}", refresh=False)
        left_s = seconds_left(step, done, progress.get("seconds_left") if progress else None)
        if left_s is not None and not self.has_told:
            self.has_told = True
            self.bar.write(f"The first version takes about {in_words(elapsed_s + left_s)} on this machine.")
        self.bar.set_postfix_str("" if left_s is None else f"about {in_words(left_s)} left", refresh=False)
        self.bar.refresh()


def seconds_left(step: str, percent: int, step_left_s: float | None) -> float | None:
    """Seconds until the whole round is done, by what is left of a step; None where that says nothing yet."""
    start, end = SPANS.get(step, (0, 2))
    if step_left_s is None or step not in ("prepare", "train", "rank") or not SURE_PERCENT <= percent < 100:
        return None
    step_s = step_left_s / (1 - percent / 100)
    return step_left_s + step_s * (SPANS["publish"][1] - end) / (end - start)


def in_words(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `2 min`."""
    return f"{max(5, 5 * round(seconds / 5))} s" if seconds < 90 else f"{round(seconds / 60)} min"
