import json
import logging
import tracemalloc

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from model.errors import BadRecord
from model.instances import Instances
from model.judging.evaluation import any_class, detections_of, evaluate, on_classes, truth_of
from model.records import Outline, Polygon, Record
from tests.model.scenes import boxes_to_detections, boxes_to_truth, random_scenes

A, B = (2, 2, 12, 12), (20, 20, 34, 30)


def test_perfect_detections_have_ap_1():
    result = evaluate([boxes_to_truth([A, B], [0, 1])], [boxes_to_detections([A, B], [0, 1], [0.9, 0.8])], ("a", "b"))
    assert result.mask_ap == result.box_ap == result.mask_ap50 == pytest.approx(1.0)
    assert result.per_class["a"] == {"mask_ap": pytest.approx(1.0), "box_ap": pytest.approx(1.0), "instances": 1}
    assert result.images == 1


def test_no_detections_have_ap_0():
    result = evaluate([boxes_to_truth([A], [0])], [boxes_to_detections([], [], [])], ("a",))
    assert (result.mask_ap, result.box_ap, result.mask_ap_any_class) == (0.0, 0.0, 0.0)


def test_a_class_without_truth_has_no_ap_and_does_not_count():
    found = boxes_to_detections([A, B], [0, 1], [0.9, 0.8])
    result = evaluate([boxes_to_truth([A], [0])], [found], ("a", "b"))
    assert result.mask_ap == pytest.approx(1.0)
    assert result.per_class["b"] == {"mask_ap": None, "box_ap": None, "instances": 0}


@pytest.mark.parametrize("images", [0, 2])
def test_without_any_object_there_is_no_ap(images):
    truths, found = [boxes_to_truth([], [])] * images, [boxes_to_detections([A], [0], [0.9])] * images
    result = evaluate(truths, found, ("a",))
    assert (result.mask_ap, result.box_ap, result.mask_ap50_any_class, result.images) == (None, None, None, images)


def test_a_wrong_name_costs_ap_but_not_the_ap_of_any_class():
    result = evaluate([boxes_to_truth([A, B], [0, 1])], [boxes_to_detections([A, B], [1, 0], [0.9, 0.8])], ("a", "b"))
    assert result.mask_ap == 0.0
    assert result.mask_ap_any_class == result.mask_ap50_any_class == pytest.approx(1.0)


def test_a_mask_of_iou_0_6_counts_at_three_of_ten_thresholds():
    found = boxes_to_detections([(2, 2, 12, 8)], [0], [0.9])  # 0.50, 0.55 and 0.60
    result = evaluate([boxes_to_truth([A], [0])], [found], ("a",))
    assert result.mask_ap == pytest.approx(0.3)
    assert result.mask_ap50 == pytest.approx(1.0)


def test_more_than_100_detections_of_an_image_count():
    boxes = [(x, y, x + 2, y + 2) for x in range(0, 48, 3) for y in range(0, 48, 3)]
    zeros = [0] * len(boxes)
    result = evaluate([boxes_to_truth(boxes, zeros)], [boxes_to_detections(boxes, zeros, [0.9] * len(boxes))], ("a",))
    assert len(boxes) > 200 and result.mask_ap == pytest.approx(1.0)


def test_the_result_agrees_with_pycocotools(capsys):
    pycoco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    for seed in range(3):
        truths, found = random_scenes(seed, images=10, classes=3)
        rows = [
            [
                {
                    "image_id": image + 1,
                    "category_id": int(label) + 1,
                    "segmentation": rle,
                    "area": 100.0,
                    "iscrowd": 0,
                    "bbox": [0, 0, 1, 1],
                    "score": float(score),
                }
                for image, objects in enumerate(side)
                for label, rle, score in zip(
                    objects.labels, objects.rles, getattr(objects, "scores", objects.labels), strict=True
                )
            ]
            for side in (truths, found)
        ]
        sides = []
        for side in rows:
            sides.append(pycoco.COCO())
            sides[-1].dataset = {
                "images": [{"id": n + 1, "height": 64, "width": 64} for n in range(10)],
                "categories": [{"id": k + 1, "name": str(k)} for k in range(3)],
                "annotations": [{**row, "id": n + 1} for n, row in enumerate(side)],
            }
            sides[-1].createIndex()
        oracle = COCOeval(*sides, "segm")
        oracle.evaluate()
        oracle.accumulate()
        precision = oracle.eval["precision"][:, :, :, 0, -1]
        expected = precision[precision > -1].mean()
        capsys.readouterr()
        assert evaluate(truths, found, ("a", "b", "c")).mask_ap == pytest.approx(expected, abs=1e-6)
        assert capsys.readouterr().out == ""  # nothing is printed


def test_the_result_is_json():
    truths, found = random_scenes(0, images=4, classes=2)
    result = evaluate(truths, found, ("a", "b", "never"))
    back = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert back["per_class"]["never"]["mask_ap"] is None
    assert back["mask_ap"] == result.mask_ap and back["images"] == 4
    assert result == evaluate(truths, found, ("a", "b", "never"))  # nothing given was changed


def test_a_record_becomes_truth():
    ring = np.array([[2, 2], [12, 2], [12, 12], [2, 12]], float)
    record = Record("x.jpg", (64, 64), (Outline("b", (Polygon(ring),)), Outline("a", (Polygon(ring + 20),))))
    truth = truth_of(record, ("a", "b"))
    assert truth.labels.tolist() == [1, 0] and truth.size_hw == (64, 64)
    result = evaluate([truth], [boxes_to_detections([A, (22, 22, 32, 32)], [1, 0], [0.9, 0.9])], ("a", "b"))
    assert result.mask_ap == result.box_ap == pytest.approx(1.0)


def test_an_unknown_label_is_named():
    record = Record("x.jpg", (9, 9), (Outline("root", (Polygon(np.eye(3, 2) * 5),)),))
    with pytest.raises(BadRecord, match=r"object of x\.jpg is a 'root'"):
        truth_of(record, ("a",))


def test_an_outline_that_covers_no_pixel_is_left_out_with_a_warning(caplog):
    sliver = Polygon(np.array([[1, 1], [8, 1], [8, 1.1]], float))
    with caplog.at_level(logging.WARNING):
        truth = truth_of(Record("x.jpg", (9, 9), (Outline("a", (sliver,)),)), ("a",))
    assert len(truth.labels) == 0 and "x.jpg (a) covers no pixel" in caplog.text


def test_instances_become_detections():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 2:12, 2:12] = True
    arrays = np.array([A], np.float32), np.array([0.9], np.float32), np.array([0]), np.array([[0.9]], np.float32)
    found = detections_of(Instances(*arrays, masks))
    assert evaluate([boxes_to_truth([A], [0])], [found], ("a",)).box_ap == pytest.approx(1.0)
    nothing = detections_of(Instances.none((64, 64), 1))
    assert evaluate([boxes_to_truth([A], [0])], [nothing], ("a",)).mask_ap == 0.0


def test_run_lengths_are_those_of_the_library_wherever_an_object_lies():
    random = np.random.default_rng(0)
    masks = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.ones((1, 1), bool)]
    for _ in range(300):
        mask = np.zeros(random.integers(1, 9, 2), bool)
        (y0, y1), (x0, x1) = (np.sort(random.integers(0, side + 1, 2)) for side in mask.shape)
        mask[y0:y1, x0:x1] = random.random((y1 - y0, x1 - x0)) < random.choice([0.3, 0.9, 1.0])
        masks.append(mask)
    for mask in masks:
        instances = Instances(np.zeros((1, 4)), np.ones(1), np.zeros(1, int), np.ones((1, 1)), mask[None])
        assert detections_of(instances).rles == (coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))),)


def test_a_small_object_of_a_large_image_costs_what_it_covers():
    masks = np.zeros((1, 2000, 3000), bool)
    masks[0, 700:720, 900:950] = True
    instances = Instances(np.zeros((1, 4)), np.ones(1), np.zeros(1, int), np.ones((1, 1)), masks)
    tracemalloc.start()
    [rle] = detections_of(instances).rles
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert coco_mask.area(rle) == 1000
    assert peak < masks.size / 10, "no copy of the whole image, which takes a hundred times as long"


def test_two_models_can_be_compared_on_their_common_classes():
    truth = on_classes(boxes_to_truth([A, B], [0, 1]), ("a", "b"), ("b",))
    found = on_classes(boxes_to_detections([A, B, B], [2, 0, 1], [0.75, 0.5, 0.25]), ("b", "x", "a"), ("b",))
    assert truth.labels.tolist() == [0] and len(truth.rles) == 1
    assert found.labels.tolist() == [0] and found.scores.tolist() == [0.5] and len(found.boxes_xyxy) == 1
    assert evaluate([truth], [found], ("b",)).mask_ap == pytest.approx(1.0)


def test_any_class_keeps_the_objects():
    assert any_class(boxes_to_truth([A, B], [3, 1])).labels.tolist() == [0, 0]


def test_results_of_other_images_are_refused():
    with pytest.raises(ValueError, match="wanted detections of 1 images, got those of 0"):
        evaluate([boxes_to_truth([A], [0])], [], ("a",))
    with pytest.raises(ValueError, match="image 0 is"):
        evaluate([boxes_to_truth([A], [0])], [boxes_to_detections([], [], [], size_hw=(24, 24))], ("a",))
