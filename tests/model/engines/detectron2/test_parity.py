"""Needs an installed Detectron2; `python -m tests.benchmarks.detectron2_parity` prints what is compared here."""

from __future__ import annotations

import pytest

parity = pytest.importorskip(
    "tests.benchmarks.detectron2_parity", reason="Detectron2 is not installed", exc_type=ImportError
)
SIZES_HW = ((237, 313), (901, 1203))

pytestmark = [pytest.mark.detectron2, pytest.mark.slow]


@pytest.mark.parametrize("name", [name for name in parity.ZOO if "1x" not in name])
def test_detectron2s_weights_give_detectron2s_predictions(name: str) -> None:
    found = parity.compare_random(name, SIZES_HW)
    exact = found["float64"]
    assert min(found["detections"]) >= 50
    assert exact["unpaired"] == 0, "in float32 random networks enlarge what is rounded"
    assert exact["box_px"] <= 5e-3 and exact["score"] <= 5e-5 and exact["mask_px"] <= 3


def test_coco_classes_are_in_detectron2s_order() -> None:
    assert list(parity.COCO_CLASSES) == parity.MetadataCatalog.get("coco_2017_val").thing_classes
