"""A GPU whose memory does not suffice: torch is given less of it than the work needs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from backend.generated.broccoli import LABELS, generate
from model.engines.base import EngineConfig
from model.engines.selection import Selection
from model.engines.torchvision.engine import TorchvisionEngine
from model.engines.torchvision.overlaps import AT_ONCE, overlaps
from model.engines.torchvision.roi_inference import RoIInference
from model.geometry import mask_to_polygons
from model.records import Outline, Record
from model.training.loop import TrainingConfig, train

pytestmark = pytest.mark.gpu

IMAGES = 8
SIZE = 512
SHARES = (0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.0, -0.1, -0.2, -0.3)
"""Of the way from the memory that a part took to what the whole took; both do with less if they have to, as cuDNN then
chooses ways that need less.
"""

Property = Callable[[str, object], None]
R = TypeVar("R")


@pytest.fixture
def engine() -> Iterator[TorchvisionEngine]:
    torch.manual_seed(0)
    config = EngineConfig(network="maskrcnn_resnet50_fpn", image_size=(SIZE, SIZE), confidence_threshold=0.1)
    yield TorchvisionEngine(LABELS, config).to("cuda")
    torch.cuda.set_per_process_memory_fraction(1.0)


def peaks(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that torch took of the GPU at most, and that were in use at most."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()


def with_less(
    part: Callable[[], object], whole: Callable[[], R], caplog: pytest.LogCaptureFixture, record_property: Property
) -> R:
    """What comes of the whole work with the most memory that does not suffice: more than a part of it needs."""
    part()  # the first call of all takes more
    (enough, _), (_, too_much) = peaks(part), peaks(whole)
    assert enough < too_much, "the whole needs more than its part"
    for share in SHARES:
        left = enough + share * (too_much - enough)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(left / torch.cuda.mem_get_info()[1])
        found = whole()
        if caplog.records:
            record_property("MiB for a part, left, for all", [round(size / 2**20) for size in (enough, left, too_much)])
            record_property("said", [record.message for record in caplog.records])
            return found
        del found  # or the next, smaller memory would have to hold it too
    raise AssertionError("cuDNN did with less memory, and nothing had to be computed in parts")


def test_images_for_which_memory_lacks_are_encoded_in_parts(
    engine: TorchvisionEngine, caplog: pytest.LogCaptureFixture, record_property: Property
) -> None:
    images = [field.image for field in generate(IMAGES, 1, (SIZE, SIZE))]
    expected = [engine.decode(e) for e in engine.encode(images, exact=True)]
    encoded = with_less(
        lambda: engine.encode(images[:1], exact=True),
        lambda: engine.encode(images, exact=True),
        caplog,
        record_property,
    )
    torch.cuda.set_per_process_memory_fraction(1.0)
    found = [engine.decode(e) for e in encoded]
    assert "not enough memory for 8 images at once, trying 4" in caplog.text
    for ours, whole in zip(found, expected, strict=True):
        assert ours.scores[:3] == pytest.approx(whole.scores[:3], abs=1e-3)


def test_a_batch_for_which_memory_lacks_is_trained_on_in_parts(
    engine: TorchvisionEngine, caplog: pytest.LogCaptureFixture, record_property: Property
) -> None:
    images: dict[str, np.ndarray] = {}
    records = []
    for index, field in enumerate(generate(IMAGES, 2, (SIZE, SIZE))):
        images[str(index)] = field.image
        outlines = [Outline(n, mask_to_polygons(m)) for n, m in zip(field.labels, field.masks, strict=True)]
        records.append(Record(str(index), (SIZE, SIZE), tuple(outlines)))

    def loss(batch_size: int) -> float:
        config = TrainingConfig(2, learning_rate=1e-4, batch_size=batch_size, optimizer="sgd")
        return train(engine, records, images.__getitem__, config).loss

    found = with_less(lambda: loss(1), lambda: loss(IMAGES), caplog, record_property)
    assert "not enough memory for a batch of 8, from now on in 2 parts" in caplog.text
    assert np.isfinite(found)


def boxes_in(count: int, size: int, seed: int) -> torch.Tensor:
    """(n, 4) of 8 to 64 pixels, on the GPU."""
    drawn = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    corners, sides = drawn[:, :2] * (size - 64), 8 + 56 * drawn[:, 2:]
    return torch.cat([corners, corners + sides], 1).cuda()


def test_overlaps_of_a_crowd_take_little_more_than_their_table(record_property: Property) -> None:
    objects, anchors = boxes_in(400, 800, 0), boxes_in(266_799, 800, 1)
    assert torch.equal(overlaps(objects[:40], anchors), box_iou(objects[:40], anchors))
    before, table = torch.cuda.memory_allocated(), 4 * len(objects) * len(anchors)
    _, most = peaks(lambda: overlaps(objects, anchors))
    record_property("MiB more, of the table", [(most - before) >> 20, table >> 20])
    assert most - before < table + 6 * 4 * AT_ONCE["cuda"]


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_masks_of_thousands_of_samples_take_a_part_of_the_memory(
    engine: TorchvisionEngine, record_property: Property, exact: bool
) -> None:
    [image] = [field.image for field in generate(1, 1, (SIZE, SIZE))]
    [encoded] = engine.encode([image], exact=exact)
    boxes = boxes_in(400, SIZE, 2).repeat(20, 1)
    every = Selection(
        torch.zeros(len(boxes), dtype=torch.int64, device="cuda"),
        torch.zeros(len(boxes), dtype=torch.int64, device="cuda"),
        boxes,
        torch.rand(len(boxes), generator=torch.Generator().manual_seed(3)).cuda(),
    )

    def masks() -> None:
        with torch.no_grad():
            RoIInference(engine.network, engine.config).masks_of_passes(encoded, every)

    before = torch.cuda.memory_allocated()
    _, most = peaks(masks)
    record_property("MiB more", (most - before) >> 20)
    assert most - before < 3 * 2**30
