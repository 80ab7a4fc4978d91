"""How much is checked: on a GPU in minutes, or in short to see that the checks themselves work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RESNET50 = "maskrcnn_resnet50_fpn"


@dataclass(frozen=True)
class Scale:
    """Sizes are sides of square images in pixels, and those of the network's input.

    network, confidence_threshold   of what is scored
    start_fields, start_size, start_steps   what it is trained on before, briefly
    score_size, compared, runs, timed   images scored both ways so many times, and those whose time is measured
    races           shortest side of the input by network
    race_photos, race_steps, race_turns
    learned         steps by network
    learn_size, learn_images, judged    of the small set, and the images that its mask AP is measured on
    least_spearman  to be reached, None where too little is trained
    least_ap        likewise, of mask AP at IoU 0.5 whatever the class
    tests           what pytest leaves out
    """

    network: str
    confidence_threshold: float
    start_fields: int
    start_size: int
    start_steps: int
    score_size: int
    compared: int
    runs: int
    timed: int
    races: Mapping[str, int]
    race_photos: int
    race_steps: int
    race_turns: int
    learned: Mapping[str, int]
    learn_size: int
    learn_images: int
    judged: int
    least_spearman: float | None
    least_ap: float | None
    tests: tuple[str, ...]


FULL = Scale(
    network=RESNET50,
    confidence_threshold=0.5,
    start_fields=40,
    start_size=400,
    start_steps=400,
    score_size=800,
    compared=40,
    runs=4,
    timed=7,
    races={RESNET50: 800, "nano": 192},
    race_photos=24,
    race_steps=20,
    race_turns=2,
    learned={RESNET50: 500, "nano": 300, "lite": 300},
    learn_size=320,
    learn_images=60,
    judged=30,
    least_spearman=0.9,
    least_ap=0.1,
    tests=(),
)

QUICK = Scale(
    network="nano",
    confidence_threshold=0.05,
    start_fields=4,
    start_size=192,
    start_steps=12,
    score_size=256,
    compared=4,
    runs=2,
    timed=2,
    races={"nano": 96},
    race_photos=6,
    race_steps=1,
    race_turns=1,
    learned={"nano": 4, "lite": 4},
    learn_size=192,
    learn_images=8,
    judged=4,
    least_spearman=None,
    least_ap=None,
    tests=("-m", "not slow", "-k", "not detectron2_r50"),
)
