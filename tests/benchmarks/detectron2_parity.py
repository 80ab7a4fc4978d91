"""Do Detectron2's weights give here what they give in Detectron2?

    python -m tests.benchmarks.detectron2_parity --json parity.json
    python -m tests.benchmarks.detectron2_parity --configs COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml \\
        --weights model_final.pth --photos photos/*.jpg

Needs an installed Detectron2. Both programs get the same weights, ours as `maskal weights convert` reads them, and
select as MaskAL does, with one non-maximum suppression across all classes. Weights of your own are compared in float32
down to low scores, in generated fields and your photos. Without any, networks are random, each layer with the
statistics of an image; they enlarge rounding errors a lot, so that the rules are compared in float64 as well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog as MetadataCatalog  # for the test
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import fast_rcnn
from detectron2.structures import Boxes
from PIL import Image
from torchvision.ops import batched_nms, nms

from model.engines.base import Engine, EngineConfig
from model.engines.conversion import convert
from model.engines.detectron2 import weights as detectron2_weights
from model.engines.detectron2.configs import ZOO
from model.engines.detectron2.weights import COCO_CLASSES as COCO_CLASSES  # for the test
from model.engines.loader import build_engine, load_pretrained
from model.instances import Instances
from tests.benchmarks.fields import fields

CLASSES = 5
SIZES_HW = ((237, 313), (480, 641), (201, 507), (901, 1203))
FIELDS_HW = (*SIZES_HW, (256, 256), (512, 512), (333, 499), (720, 405), (384, 640), (600, 800))
TILES = 3
RANDOM_SCORE, TRAINED_SCORE, NMS = 0.6, 0.05, 0.2
PAIRED_PX = 1.0
"""Boxes that are further away from each other are not the same detection."""

SPREADS = {
    **{f"backbone.fpn_output{level}": 1.0 for level in (2, 3, 4, 5)},
    "proposal_generator.rpn_head.conv": 1.0,
    "proposal_generator.rpn_head.objectness_logits": 2.0,
    "proposal_generator.rpn_head.anchor_deltas": 0.2,
    "roi_heads.box_head.fc1": 1.0,
    "roi_heads.box_head.fc2": 1.0,
    "roi_heads.box_predictor.cls_score": 2.0,
    "roi_heads.box_predictor.bbox_pred": 0.7,
    **{f"roi_heads.mask_head.mask_fcn{layer}": 1.0 for layer in (1, 2, 3, 4)},
    "roi_heads.mask_head.predictor": 2.0,
}
"""Standard deviation of what layers give, about as training makes it."""


@dataclass(frozen=True)
class Case:
    """A network to compare: its config, the file of its weights, and above which score it finds something."""

    name: str
    weights: Path
    score: float

    @property
    def classes(self) -> tuple[str, ...]:
        """As many names as the weights know classes."""
        known = detectron2_weights.num_classes(detectron2_weights.read(self.weights))
        return tuple(f"class {index}" for index in range(known or 0))

    def engine(self) -> Engine:
        """Our engine with the weights, through a checkpoint of ours."""
        with TemporaryDirectory() as folder:
            out = Path(folder, "w.safetensors")
            convert(self.weights, self.name, self.classes, out)
            engine = build_engine("torchvision", self.classes, EngineConfig(self.name, 0.25, self.score, NMS))
            load_pretrained(engine, str(out), ())
        return engine

    def model(self) -> tuple[Any, torch.nn.Module]:
        """Detectron2's config and model with the weights."""
        cfg, model = random_model(self.name, len(self.classes), self.score)
        DetectionCheckpointer(model).load(str(self.weights))
        return cfg, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="*", default=[name for name in ZOO if "1x" not in name])
    parser.add_argument("--weights", nargs="*", type=Path, default=[], help="a .pth or .pkl file for each config")
    parser.add_argument("--photos", nargs="*", type=Path, default=[], help="images to compare as well, with --weights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.weights and len(options.weights) != len(options.configs):
        parser.error(f"--weights needs a file for each of {len(options.configs)} configs, got {len(options.weights)}")
    report = {}
    for index, name in enumerate(options.configs):
        if options.weights:
            images = [*field_images(), *(read_image(path) for path in options.photos)]
            report[name] = compare_trained(name, options.weights[index], images)
        else:
            report[name] = compare_random(name)
        print(json.dumps({name: report[name]}, indent=2), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2))


def compare_trained(name: str, weights: Path, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """The largest differences in float32 over RGB uint8 (h, w, 3) images."""
    case = Case(name, weights, TRAINED_SCORE)
    return compare(images, *case.model(), case.engine())


def compare_random(name: str, sizes_hw: Sequence[tuple[int, int]] = SIZES_HW) -> dict[str, Any]:
    """The largest differences of random networks over generated images, in float32 and in float64."""
    images = [picture(size_hw, seed) for seed, size_hw in enumerate(sizes_hw)]
    cfg, model = sensible_model(name, images[-1])
    with TemporaryDirectory() as folder:
        source = Path(folder, "model_final.pth")
        torch.save({"model": model.state_dict(), "iteration": 100}, source)
        engine = Case(name, source, RANDOM_SCORE).engine()
    found = compare(images, cfg, model, engine)
    engine.network.double()
    with across_classes(), in_float64(cfg, model.to(memory_format=torch.contiguous_format)):
        exact = [(reference(cfg, model, image), engine.predict(image)) for image in images]
    return {**found, "float64": largest(exact)}


def compare(images: Sequence[np.ndarray], cfg: Any, model: torch.nn.Module, engine: Engine) -> dict[str, Any]:
    """The largest differences in float32.

    How far Detectron2 is away from itself with its weights laid out differently in memory is the measure of what
    float32 can tell.
    """
    with across_classes():
        theirs = [reference(cfg, model, image) for image in images]
        ours = [engine.predict(image) for image in images]
        model.to(memory_format=torch.channels_last)
        itself = [reference(cfg, model, image) for image in images]
    return {
        "images": len(images),
        "detections": [len(found) for found in theirs],
        "sure_detections": [int((found.scores > 0.5).sum()) for found in theirs],
        "mean_mask_px": round(float(np.mean([found.masks.sum((1, 2)).mean() for found in theirs if len(found)]))),
        "float32": largest(list(zip(theirs, ours, strict=True))),
        "float32_of_detectron2_itself": largest(list(zip(theirs, itself, strict=True))),
    }


def largest(pairs: Sequence[tuple[Instances, Instances]]) -> dict[str, Any]:
    """The largest differences between pairs of predictions, and how many detections the other side does not have."""
    differences = [_difference(*pair) for pair in pairs]
    found = {key: max(part[key] for part in differences) for key in ("box_px", "score", "mask_px")}
    return {**found, "unpaired": sum(part["unpaired"] for part in differences)}


def _difference(theirs: Instances, ours: Instances) -> dict[str, Any]:
    """The largest differences of detections that are each other's nearest by their boxes, within a class."""
    rows, columns = _pairs(theirs, ours)
    boxes = np.abs(theirs.boxes_xyxy[rows] - ours.boxes_xyxy[columns])
    return {
        "box_px": float(boxes.max(initial=0)),
        "score": float(np.abs(theirs.scores[rows] - ours.scores[columns]).max(initial=0)),
        "mask_px": int((theirs.masks[rows] != ours.masks[columns]).sum((1, 2)).max(initial=0)),
        "unpaired": len(theirs) + len(ours) - 2 * len(rows),
    }


def _pairs(theirs: Instances, ours: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Indices (p,) of detections of either side that belong together; each occurs once at most."""
    if not len(theirs) or not len(ours):
        return np.zeros(0, int), np.zeros(0, int)
    distances = np.abs(theirs.boxes_xyxy[:, None] - ours.boxes_xyxy).max(2)  # (n, m)
    distances[theirs.labels[:, None] != ours.labels] = np.inf
    rows, columns = np.arange(len(theirs)), distances.argmin(1)
    belong = (distances.argmin(0)[columns] == rows) & (distances[rows, columns] <= PAIRED_PX)
    return rows[belong], columns[belong]


def field_images() -> list[np.ndarray]:
    """Generated fields of many sizes, RGB uint8 (h, w, 3)."""
    images = []
    for seed, (height, width) in enumerate(FIELDS_HW):
        [(image, _)] = fields(1, seed, max(height, width), TILES)
        images.append(image[:height, :width])
    return images


def read_image(path: Path) -> np.ndarray:
    """A photo as RGB uint8 (h, w, 3)."""
    return np.array(Image.open(path).convert("RGB"))


def picture(size_hw: tuple[int, int], seed: int) -> np.ndarray:
    """A photo-like image: ellipses of all sizes on a mottled ground, with noise."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (12, 16, 3)).astype(np.uint8)
    image = cv2.resize(ground, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        centre = [int(rng.integers(0, side)) for side in size_hw[::-1]]
        axes = [int(a) for a in rng.integers(max(2, min(size_hw) // 40), min(size_hw) // 5, 2)]
        colour = [int(c) for c in rng.integers(0, 256, 3)]
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def sensible_model(name: str, image: np.ndarray) -> tuple[Any, torch.nn.Module]:
    """Detectron2's config and model with weights that make some dozens of detections."""
    cfg, model = random_model(name, CLASSES, RANDOM_SCORE)
    hooks = [m.register_forward_pre_hook(_settle) for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    for path, spread in SPREADS.items():
        hooks.append(model.get_submodule(path).register_forward_hook(partial(_spread, spread)))
    reference(cfg, model, image)
    for hook in hooks:
        hook.remove()
    return cfg, model


def random_model(name: str, classes: int, score: float) -> tuple[Any, torch.nn.Module]:
    """Detectron2's config and model as it begins to train."""
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(name))
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "cpu", classes
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = score, NMS
    torch.manual_seed(0)
    return cfg, build_model(cfg).eval()


def _spread(wanted: float, layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    """Scale and shift a layer so that each of its channels has that standard deviation around 0."""
    values = output.transpose(0, 1).flatten(1)  # (c, all else)
    factor, mean = wanted / (values.std(1) + 1e-3), values.mean(1)
    shape = (-1,) + (1,) * (output.ndim - 2)
    layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.copy_((layer.bias - mean) * factor)
    return (output - mean.view(shape)) * factor.view(shape)


def _settle(layer: FrozenBatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
    """The statistics of what comes in, and a scale and a shift as training leaves them."""
    generator = torch.Generator().manual_seed(len(layer.weight))
    layer.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    layer.running_var.copy_(inputs[0].var((0, 2, 3)))
    layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) * 0.3 + 0.2)
    layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.1)


@torch.no_grad()
def reference(cfg: Any, model: torch.nn.Module, image: np.ndarray) -> Instances:
    """What Detectron2 finds in an RGB uint8 (h, w, 3) image, by the steps of its own predictor."""
    height, width = image.shape[:2]
    resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
    bgr = image[:, :, ::-1]
    pixels = torch.as_tensor(resize.get_transform(bgr).apply_image(bgr).astype("float32").transpose(2, 0, 1))
    found = model([{"image": pixels, "height": height, "width": width}])[0]["instances"]
    scores = found.scores.float().numpy()
    return Instances(
        boxes_xyxy=found.pred_boxes.tensor.float().numpy(),
        scores=scores,
        labels=found.pred_classes.numpy(),
        softmaxes=np.repeat(scores[:, None], cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1),
        masks=found.pred_masks.numpy(),
    )


@contextmanager
def in_float64(cfg: Any, model: torch.nn.Module) -> Iterator[None]:
    """Detectron2 in float64 throughout: its boxes, which it keeps in float32, and the mean and deviation of pixels."""
    original = Boxes.__init__
    model.double()
    for buffer, values in ((model.pixel_mean, cfg.MODEL.PIXEL_MEAN), (model.pixel_std, cfg.MODEL.PIXEL_STD)):
        buffer.copy_(torch.tensor(values, dtype=torch.float64).view(3, 1, 1))
    Boxes.__init__ = lambda self, tensor: setattr(self, "tensor", tensor.reshape(-1, 4))
    try:
        yield
    finally:
        Boxes.__init__ = original


@contextmanager
def across_classes() -> Iterator[None]:
    """Detectron2's selection with one suppression across all classes, as MaskAL has it; proposals in float64 too."""
    originals = fast_rcnn.batched_nms, proposal_utils.batched_nms
    fast_rcnn.batched_nms = lambda boxes, scores, classes, threshold: nms(boxes.to(scores.dtype), scores, threshold)
    proposal_utils.batched_nms = lambda boxes, scores, *rest: batched_nms(boxes.to(scores.dtype), scores, *rest)
    try:
        yield
    finally:
        fast_rcnn.batched_nms, proposal_utils.batched_nms = originals


if __name__ == "__main__":
    main()
