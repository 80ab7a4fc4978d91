from __future__ import annotations

import pytest
import torch

from model.engines.dropout import DropoutMaskPredictor
from model.engines.torchvision.mask_samples import ROWS_PER_BATCH, group_boxes, mask_probabilities, read_boxes


@pytest.fixture
def predictor() -> DropoutMaskPredictor:
    torch.manual_seed(0)
    return DropoutMaskPredictor(8, 6, 4, 0.25).eval()


@pytest.mark.parametrize("count", [0, 1, 5, ROWS_PER_BATCH["cpu"] + 3])
@torch.no_grad()
def test_without_dropout_it_is_the_predictors_own_output_at_the_labels(
    predictor: DropoutMaskPredictor, count: int
) -> None:
    features, labels = torch.randn(count, 8, 14, 14), torch.randint(0, 3, (count,))
    ours = mask_probabilities(predictor, features.permute(0, 2, 3, 1), labels)
    own = predictor(features)[torch.arange(count), labels + 1].sigmoid()
    assert ours.shape == (count, 28, 28)
    assert torch.allclose(ours, own, atol=1e-5)


@torch.no_grad()
def test_with_dropout_samples_of_the_same_features_differ(predictor: DropoutMaskPredictor) -> None:
    for layer in (predictor.drop5, predictor.drop_logits):
        layer.train()
        layer.generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 14, 14, 8).expand(2, -1, -1, -1)
    first, second = mask_probabilities(predictor, features, torch.zeros(2, dtype=torch.int64))
    assert not torch.allclose(first, second)


@torch.no_grad()
def test_dropout_does_not_move_the_mean(predictor: DropoutMaskPredictor) -> None:
    """Of the logits: with the last layer's dropout alone they are linear in what is dropped."""
    predictor.drop_logits.train()
    predictor.drop_logits.generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 14, 14, 8)
    labels = torch.zeros(4000, dtype=torch.int64)
    sampled = mask_probabilities(predictor, features.expand(4000, -1, -1, -1), labels).logit().mean(0)
    predictor.eval()
    usual = mask_probabilities(predictor, features, labels[:1]).logit()[0]
    assert (sampled - usual).abs().max() < 0.05


def test_the_objects_own_box_reads_its_features_unchanged() -> None:
    trunk = torch.randn(2, 3, 14, 14)
    objects = torch.tensor([[0.0, 0, 28, 28], [5, 5, 50, 95]])
    read = read_boxes(trunk, objects, torch.tensor([1, 0]), objects[[1, 0]])
    assert torch.allclose(read.permute(0, 3, 1, 2), trunk[[1, 0]], atol=1e-5)


def test_a_box_reads_where_it_lies() -> None:
    """Features that tell their own x and y: the left half reads half of the x, a shifted box reads a shifted y."""
    centres = torch.arange(14) + 0.5
    trunk = torch.stack([centres.expand(14, 14), centres[:, None].expand(14, 14)])[None]  # x, y
    objects = torch.tensor([[10.0, 20, 24, 34]])  # a pixel for each cell
    [left] = read_boxes(trunk, objects, torch.tensor([0]), torch.tensor([[10.0, 20, 17, 34]]))
    assert torch.allclose(left[0, :, 0].clamp(min=0.5), (centres / 2).clamp(min=0.5), atol=1e-5)
    [lower] = read_boxes(trunk, objects, torch.tensor([0]), torch.tensor([[10.0, 23, 24, 37]]))
    assert torch.allclose(lower[:, 0, 1], (centres + 3).clamp(max=13.5), atol=1e-5), "the rim beyond the object"


def test_boxes_that_are_about_the_same_go_to_the_best_of_them() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
    near_right = (50.0, 0.0, 60.0, 9.0)
    objects, belongs_to = group_boxes(torch.tensor([near_right, left, right]), torch.tensor([0.3, 0.9, 0.4]))
    assert objects.tolist() == [list(left), list(right)]
    assert belongs_to.tolist() == [1, 0, 1]


def test_no_boxes_make_no_object() -> None:
    objects, belongs_to = group_boxes(torch.zeros(0, 4), torch.zeros(0))
    assert (objects.shape, belongs_to.shape, belongs_to.dtype) == ((0, 4), (0,), torch.int64)
