"""How well detections fit the truth: COCO average precision, and whether one model is worse than another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as coco_mask

from model.errors import BadRecord
from model.geometry import box_of, polygons_to_mask
from model.instances import Instances
from model.records import Record

logger = logging.getLogger(__name__)

Rle = dict[str, Any]  # COCO's run lengths: {"size": [h, w], "counts": bytes}
MAX_DETECTIONS = 1000  # for each image and class; COCO's 100 would cut off images of many nuclei
EVALUATION_THRESHOLD = 0.05  # scores from which on detections count for AP, as in Detectron2's and torchvision's
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, eq=False)
class Truth:
    """Annotated objects of one image: labels (n,) int64 into the class names, rles n masks of the image's size."""

    size_hw: tuple[int, int]
    labels: np.ndarray
    rles: tuple[Rle, ...]


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected objects of one image: as in Truth, scores (n,) float, boxes_xyxy (n, 4) float in pixels."""

    size_hw: tuple[int, int]
    labels: np.ndarray
    rles: tuple[Rle, ...]
    scores: np.ndarray
    boxes_xyxy: np.ndarray


Objects = TypeVar("Objects", Truth, Detections)


@dataclass(frozen=True)
class Evaluation:
    """Average precision 0..1 over a set of images; None where there is no object to find.

    mask_ap, box_ap     mean over the IoU thresholds 0.50, 0.55, ..., 0.95 and over the classes that have truth
    mask_ap50           the same at IoU 0.5 alone
    *_any_class         all classes taken as one: was the object found, whatever it was called
    per_class           {class name: {"mask_ap", "box_ap", "instances": number of true objects}}
    images              number of images
    """

    mask_ap: float | None
    box_ap: float | None
    mask_ap50: float | None
    mask_ap_any_class: float | None
    mask_ap50_any_class: float | None
    per_class: dict[str, dict[str, float | int | None]]
    images: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def truth_of(record: Record, class_names: Sequence[str]) -> Truth:
    """Rasterise a record's outlines.

    One that covers half of no pixel is left out with a warning: nothing could ever match it. Raises BadRecord if an
    outline has another label than the class names.
    """
    labels, rles = [], []
    for outline in record.outlines:
        if outline.label not in class_names:
            raise BadRecord(f"object of {record.image} is a {outline.label!r}, wanted one of {tuple(class_names)}")
        mask = polygons_to_mask(outline.parts, record.size_hw)
        if not mask.any():
            logger.warning("an outline of %s (%s) covers no pixel and is not evaluated", record.image, outline.label)
            continue
        labels.append(class_names.index(outline.label))
        rles.append(_encoded(mask))
    return Truth(record.size_hw, np.array(labels, np.int64), tuple(rles))


def detections_of(instances: Instances) -> Detections:
    """Keep of an image's instances what evaluation needs, with the masks as run lengths."""
    return Detections(
        size_hw=instances.size_hw,
        labels=instances.labels,
        rles=tuple(_encoded(mask) for mask in instances.masks),
        scores=instances.scores,
        boxes_xyxy=instances.boxes_xyxy,
    )


def on_classes(objects: Objects, names: Sequence[str], wanted: Sequence[str]) -> Objects:
    """Objects of the wanted classes only, with labels into `wanted` instead of `names`: to compare two models."""
    translation = np.array([wanted.index(name) if name in wanted else -1 for name in names], np.int64)
    labels = translation[objects.labels]
    kept = np.flatnonzero(labels >= 0)
    changed: dict[str, Any] = {"labels": labels[kept], "rles": tuple(objects.rles[index] for index in kept)}
    if isinstance(objects, Detections):
        changed |= {"scores": objects.scores[kept], "boxes_xyxy": objects.boxes_xyxy[kept]}
    return replace(objects, **changed)


def any_class(objects: Objects) -> Objects:
    """The same objects with one label for all."""
    return replace(objects, labels=np.zeros_like(objects.labels))


def evaluate(truths: Sequence[Truth], detections: Sequence[Detections], class_names: Sequence[str]) -> Evaluation:
    """Compare detections with the truth of the same images, in the same order (COCO's AP, all object sizes)."""
    check_pairs(truths, detections)
    num_classes = len(class_names)
    masks = _precisions(truths, detections, num_classes, "segm")
    boxes = _precisions(truths, detections, num_classes, "bbox")
    anything = _precisions([any_class(t) for t in truths], [any_class(d) for d in detections], 1, "segm")
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *(t.labels for t in truths)]), minlength=num_classes)
    per_class: dict[str, dict[str, float | int | None]] = {
        name: {"mask_ap": _mean(masks[..., k]), "box_ap": _mean(boxes[..., k]), "instances": int(counts[k])}
        for k, name in enumerate(class_names)
    }
    return Evaluation(
        mask_ap=_mean(masks),
        box_ap=_mean(boxes),
        mask_ap50=_mean(masks[0]),
        mask_ap_any_class=_mean(anything),
        mask_ap50_any_class=_mean(anything[0]),
        per_class=per_class,
        images=len(truths),
    )


def check_pairs(truths: Sequence[Truth], detections: Sequence[Detections]) -> None:
    """ValueError unless both are about the same images: as many, and of the same sizes."""
    if len(truths) != len(detections):
        raise ValueError(f"wanted detections of {len(truths)} images, got those of {len(detections)}")
    for index, (truth, found) in enumerate(zip(truths, detections, strict=True)):
        if truth.size_hw != found.size_hw:
            raise ValueError(f"image {index} is {truth.size_hw} high and wide, its detections' masks {found.size_hw}")


def _encoded(mask: np.ndarray) -> Rle:
    """Run lengths of a mask (h, w) bool, which run down its columns.

    As the library's `encode`, but only the object's box is looked at: in images of many megapixels that copies and
    reads all pixels for each object.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = box_of(mask).astype(int)
    columns = np.pad(mask[y0:y1, x0:x1].T, ((0, 0), (1, 1)))  # each begins and ends outside of the object
    column, row = np.divmod(np.flatnonzero(np.diff(columns.ravel())), columns.shape[1])
    changes, times = np.unique((x0 + column) * height + y0 + row, return_counts=True)
    changes = changes[times == 1]  # a run that ends a column may go on in the next one
    runs = np.diff(np.concatenate([[0], np.union1d(changes, [height * width])]))
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return rle


def _precisions(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    num_classes: int,
    kind: Literal["segm", "bbox"],
) -> np.ndarray:
    """Precision at 101 recalls: (10 IoU thresholds, 101, num_classes); -1 for classes without truth."""
    true = [_annotations(image, truth, _boxes_xywh(truth)) for image, truth in enumerate(truths)]
    found = [_annotations(image, found, _boxes_xywh(found), found.scores) for image, found in enumerate(detections)]
    if not any(true):
        return np.full((len(IOU_THRESHOLDS), 101, num_classes), -1.0)
    datasets = _dataset(truths, true, num_classes), _dataset(truths, found, num_classes)
    evaluator = COCOeval_faster(*datasets, kind, rle_iou_max_workers=1)
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.evaluate()
    evaluator.accumulate()
    precision: np.ndarray = evaluator.eval["precision"][:, :, :, 0, 0]  # all sizes, all detections
    return precision


def _boxes_xywh(objects: Truth | Detections) -> np.ndarray:
    """Boxes (n, 4) as COCO wants them; the truth's are those around its masks."""
    if isinstance(objects, Truth):
        return np.array([coco_mask.toBbox(rle) for rle in objects.rles]).reshape(-1, 4)
    boxes = objects.boxes_xyxy.astype(float)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _annotations(
    image: int, objects: Truth | Detections, boxes_xywh: np.ndarray, scores: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One image's objects as COCO annotations, without ids; classes and images count from 1 there."""
    rows = [
        {
            "image_id": image + 1,
            "category_id": int(label) + 1,
            "segmentation": rle,
            "bbox": [float(value) for value in box],
            "area": float(coco_mask.area(rle)),
            "iscrowd": 0,
        }
        for label, rle, box in zip(objects.labels, objects.rles, boxes_xywh, strict=True)
    ]
    return rows if scores is None else [row | {"score": float(score)} for row, score in zip(rows, scores, strict=True)]


def _dataset(truths: Sequence[Truth], annotations: Sequence[list[dict[str, Any]]], num_classes: int) -> COCO:
    rows = [row for rows in annotations for row in rows]
    return COCO(
        {
            "images": [
                {"id": image, "height": truth.size_hw[0], "width": truth.size_hw[1]}
                for image, truth in enumerate(truths, start=1)
            ],
            "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
            "annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)],
        }
    )


def _mean(precisions: np.ndarray) -> float | None:
    """Mean over thresholds, recalls and those classes that have truth."""
    known = precisions[precisions > -1]
    return float(known.mean()) if known.size else None
