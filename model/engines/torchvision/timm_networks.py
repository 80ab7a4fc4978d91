"""Mask R-CNN on backbones of timm: `lite`, which is EfficientNet-Lite0 for CPUs, and `timm/<name>` for any other.

What is asked of timm once, which levels a backbone gives and how its input is normalised, goes into a version's facts,
so that the same network is built again without the network or its weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import timm
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from model.engines.torchvision.centring import centred
from model.engines.torchvision.depthwise import with_wide_depthwise
from model.engines.torchvision.heads import SCALES, mask_rcnn, plain_anchors
from model.errors import BadEngine

PREFIX = "timm/"
STRIDES = (4, 8, 16, 32)
"""Of the levels that the pyramid is built on, pixels of the input."""

LOOK_HW = (96, 160)
"""Size of the input with which a backbone is tried; it has to take any multiple of 32."""

LONG_HW = (32, 1696)
"""As long as inputs get: some networks look positions up in tables that are made for a shorter one."""

TIMM_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, LookupError)
"""What timm raises for names that it does not know, and for networks without features."""


@dataclass(frozen=True)
class TimmFacts:
    """What has to be known to build a Mask R-CNN on a backbone of timm's.

    name          timm's own, with a tag or without
    levels        indices of its features with strides of 4, 8, 16 and 32 pixels; channels: theirs
    mean, std     of the input, RGB of 0..1
    scale         key of SCALES: input and number of proposals
    width         channels of the pyramid
    box_channels, mask_channels   of the heads
    is_centred    its cells lie where RoIAlign looks for them, see `centring`; stored facts without it are of before
    """

    name: str
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: str
    width: int
    box_channels: int
    mask_channels: int
    is_centred: bool = False

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON has them, lists in place of tuples; `facts_of` reads them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


LITE = TimmFacts(
    name="tf_efficientnet_lite0",
    levels=(1, 2, 3, 4),
    channels=(24, 40, 112, 320),
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    scale="small",
    width=64,
    box_channels=256,
    mask_channels=64,
    is_centred=True,
)
"""`lite`: the input is (x - 127) / 128, as its weights were trained; the heads are as wide as those of `nano`."""

LARGE_WIDTHS = {"width": 256, "box_channels": 1024, "mask_channels": 256}
"""Of the heads on any other backbone: torchvision's usual ones."""


class TimmBackbone(nn.Module):
    """A backbone's levels through an FPN, which adds a fifth: (n, 3, h, w) -> name -> (n, out_channels, h', w').

    `level_std` (4,) is what each level is divided by, so that heads with random weights begin with values of about 1:
    those of EfficientNet-Lite0 are spread by 7, on which the mask head's first steps go astray.
    """

    level_std: torch.Tensor

    def __init__(self, facts: TimmFacts) -> None:
        super().__init__()
        self.body = with_wide_depthwise(features_of(facts))
        self.fpn = FeaturePyramidNetwork(list(facts.channels), facts.width, LastLevelMaxPool())
        self.out_channels = facts.width
        self.register_buffer("level_std", torch.ones(len(facts.levels)))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Levels "0" to "3" and "pool", finest first."""
        found = zip(self.body(x), self.level_std, strict=True)
        levels: dict[str, torch.Tensor] = self.fpn({str(i): level / std for i, (level, std) in enumerate(found)})
        return levels

    def stages(self) -> list[list[nn.Parameter]]:
        """The body's parameters by depth: the stem, and what each level adds to the one before."""
        return split_by_level(self.body)


def is_timm(network: str) -> bool:
    """Whether a network's name is one of those that are built here."""
    return network == "lite" or network.startswith(PREFIX)


def facts_for(network: str) -> TimmFacts:
    """The facts of `lite`, or those that timm tells of another; BadEngine if it gives no pyramid."""
    return LITE if network == "lite" else read_facts(network.removeprefix(PREFIX))


def read_facts(name: str) -> TimmFacts:
    """What timm says of a backbone, without making its weights; BadEngine if it has not all levels."""
    try:
        with torch.device("meta"):
            body: Any = timm.create_model(name, pretrained=False, features_only=True).eval()
            shapes = [tuple(level.shape) for level in body(torch.zeros(1, 3, *LOOK_HW))]
        if body.pretrained_cfg["fixed_input_size"]:  # true of some that take any: only values show which
            timm.create_model(name, pretrained=False, features_only=True).eval()(torch.zeros(1, 3, *LONG_HW))
    except TIMM_ERRORS as err:
        raise BadEngine(
            f"network_config {PREFIX}{name}: timm cannot build it as a backbone for images of any size "
            f"({first_line(err)}); wanted a name of timm's that gives levels with strides of {_list(STRIDES)} pixels, "
            f"such as {PREFIX}resnet50 or {PREFIX}convnext_tiny"
        ) from err
    wanted = [(LOOK_HW[0] // stride, LOOK_HW[1] // stride) for stride in STRIDES]
    levels = [max((i for i, shape in enumerate(shapes) if shape[2:] == size), default=-1) for size in wanted]
    if -1 in levels:
        raise BadEngine(
            f"network_config {PREFIX}{name}: wanted a backbone that gives (n, c, h, w) levels with strides of "
            f"{_list(STRIDES)} pixels, got {_list(shapes)} of an input of {_list(LOOK_HW)}; choose another, such as "
            f"{PREFIX}resnet50"
        )
    return TimmFacts(
        name=name,
        levels=tuple(body.feature_info.out_indices[i] for i in levels),
        channels=tuple(shapes[i][1] for i in levels),
        mean=tuple(body.pretrained_cfg["mean"]),
        std=tuple(body.pretrained_cfg["std"]),
        scale="large",
        is_centred=True,
        **LARGE_WIDTHS,
    )


def facts_of(stored: Mapping[str, Any]) -> TimmFacts:
    """Facts as `TimmFacts.as_json` wrote them; BadEngine if they are not all there."""
    try:
        found: dict[str, Any] = {
            field.name: _tuple(stored[field.name])
            for field in fields(TimmFacts)
            if field.name in stored or field.default is MISSING
        }
    except KeyError as err:
        raise BadEngine(f"the stored network lacks {err}; give the network that the weights were trained with") from err
    return TimmFacts(**found)


def features_of(facts: TimmFacts, **options: Any) -> nn.Module:
    """A backbone as timm builds it, (n, 3, h, w) -> levels; with random weights unless the options say otherwise."""
    try:
        body: nn.Module = timm.create_model(facts.name, features_only=True, out_indices=facts.levels, **options)
        return centred(body) if facts.is_centred else body
    except TIMM_ERRORS as err:
        if options:
            raise
        raise BadEngine(
            f"timm {timm.__version__} cannot build {facts.name} ({first_line(err)}); install the version of timm in "
            "constraints.txt"
        ) from err


def build(facts: TimmFacts, num_classes: int) -> MaskRCNN:
    """A network as the facts say, with random weights, for so many foreground classes."""
    scale = SCALES[facts.scale]
    return mask_rcnn(
        TimmBackbone(facts),
        num_classes,
        scale,
        box_channels=facts.box_channels,
        mask_channels=facts.mask_channels,
        image_mean=list(facts.mean),
        image_std=list(facts.std),
        rpn_anchor_generator=plain_anchors([scale.input.anchor * 2.0**level for level in range(5)]),
    )


def split_by_level(body: Any) -> list[list[nn.Parameter]]:
    """A backbone's parameters by depth: the stem, then those up to the end of each level's module."""
    ends = [_plain(name) for name in body.feature_info.module_name()]
    stages: list[list[nn.Parameter]] = [[] for _ in range(1 + len(ends))]
    stage, inside = 0, ""
    for name, module in body.named_modules():
        plain = _plain(name)
        if inside and not plain.startswith(f"{inside}_"):
            stage, inside = ends.index(inside) + 2, ""
        if plain in ends:
            inside = plain
            stage = max(stage, 1)
        stages[min(stage, len(ends))].extend(module.parameters(recurse=False))
    return stages


def _plain(name: str) -> str:
    """A module's name with or without its parents flattened, as timm does it."""
    return name.replace(".", "_")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _list(values: Any) -> str:
    return ", ".join(str(value) for value in values)


def first_line(err: BaseException) -> str:
    """What an error says, without what follows in further lines; its class where it says nothing."""
    return (str(err).splitlines() or [type(err).__name__])[0]
