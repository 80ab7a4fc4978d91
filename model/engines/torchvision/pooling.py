"""RoIAlign: Detectron2's exactly, and on a CPU either kind by matrix products, in training too.

Products are several times faster than torchvision's own, and work in bfloat16 too. Bilinear sampling on a regular
grid is separable: the average of a bin's samples is one weighted sum of the rows of cells that it touches, and one of
the columns; boxes of about the same size are computed together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

STEP = 8
"""Windows of cells are made up to multiples of this, so that many boxes have the same."""

CELLS_AT_ONCE = 16384
"""What is larger than some 10 MB costs a CPU more to allocate than to compute."""

FINEST_OCTAVE = 2
"""The finest level has a stride of 4 pixels, each further one twice the stride."""


class FixedStrideRoIAlign(MultiScaleRoIAlign):
    """RoIAlign with strides of 4, 8, 16, ... pixels whatever the image's size, as Detectron2 has it.

    is_aligned       boxes are moved by half a cell, so that a pixel's value stands at its centre, and are not widened
    sampling_ratio   samples along a side of a bin; 0: as many as it has cells
    """

    def __init__(self, names: Sequence[str], bins: int, sampling_ratio: int, *, is_aligned: bool) -> None:
        super().__init__(list(names), bins, sampling_ratio)
        self.is_aligned = is_aligned

    def forward(
        self, x: Mapping[str, torch.Tensor], boxes: Sequence[torch.Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """Levels (b, c, h, w) and per image boxes (n, 4) in pixels of the input -> (all boxes, c, m, m)."""
        if (trained := pool_in_training(self, x, boxes)) is not None:
            return trained
        maps = [x[name] for name in self.featmap_names]
        images = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rows = torch.cat([images, torch.cat(list(boxes))], dim=1)  # (n, 5): image, box
        sides = (rows[:, 3:] - rows[:, 1:3]).prod(1).sqrt()
        wanted = torch.floor(self.canonical_level + torch.log2(sides / self.canonical_scale + 1e-8))
        level = wanted.clamp(FINEST_OCTAVE, FINEST_OCTAVE + len(maps) - 1).long() - FINEST_OCTAVE
        pooled = maps[0].new_zeros(len(rows), maps[0].shape[1], *self.output_size)
        for index, values in enumerate(maps):
            here = torch.nonzero(level == index)[:, 0]
            scale = 0.5 ** (FINEST_OCTAVE + index)
            read = roi_align(values, rows[here], self.output_size, scale, self.sampling_ratio, self.is_aligned)
            pooled[here] = read.to(pooled.dtype)
        return pooled


def pool_boxes(pooler: MultiScaleRoIAlign, levels: Mapping[str, torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """What `pooler` makes of one image's levels (1, c, h, w) and boxes (n, 4): (n, c, m, m), in the levels' precision.

    Boxes lie in pixels of the network's input and inside of it. Fastest where the levels are channels_last.
    """
    maps = [levels[name] for name in pooler.featmap_names]
    return _pool(maps, _plan(pooler, maps, [boxes]))[0]


class TrainedRoIAlign(MultiScaleRoIAlign):
    """torchvision's RoIAlign, which trains on a CPU by matrix products.

    torchvision finds the levels' strides from the first images that it sees, without the rim that pads them: where
    these are less than 23 pixels high it takes others, and keeps them for all images that come later.
    """

    def forward(
        self, x: Mapping[str, torch.Tensor], boxes: Sequence[torch.Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        """Levels (b, c, h, w) and per image boxes (n, 4) in pixels of the input -> (all boxes, c, m, m)."""
        if (trained := pool_in_training(self, x, boxes)) is not None:
            return trained
        height, width = x[self.featmap_names[0]].shape[-2:]
        padded_hw = (height << FINEST_OCTAVE, width << FINEST_OCTAVE)
        pooled: torch.Tensor = super().forward(x, boxes, [padded_hw])
        return pooled


def pool_in_training(
    pooler: MultiScaleRoIAlign, levels: Mapping[str, torch.Tensor], boxes: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    """What `pooler` makes of a batch, with gradients for the levels and none for the boxes; None where it should do it.

    That is so outside of training, and on a GPU.
    """
    maps = [levels[name] for name in pooler.featmap_names]
    if not pooler.training or maps[0].device.type != "cpu":
        return None
    plan = _plan(pooler, maps, [some.detach() for some in boxes])
    pooled: torch.Tensor = _Pooling.apply(plan, *maps)
    return pooled


class _Pooling(torch.autograd.Function):
    """`_pool` with the gradients of the maps, which are summed up in float32."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *maps: torch.Tensor) -> torch.Tensor:
        pooled, ctx.parts = _pool(maps, plan)
        ctx.shapes, ctx.dtypes = [m.shape for m in maps], [m.dtype for m in maps]
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        pooled = gradients[0].permute(0, 2, 3, 1).float()  # (n, m, m, c)
        of_cells = [pooled.new_zeros(b * h * w, c) for b, c, h, w in ctx.shapes]
        for part in ctx.parts:
            part.give(pooled, of_cells[part.level])
        grids = zip(of_cells, ctx.shapes, ctx.dtypes, strict=True)
        return None, *(g.view(b, h, w, c).permute(0, 3, 1, 2).to(dtype) for g, (b, c, h, w), dtype in grids)


@dataclass(frozen=True, eq=False)
class _Part:
    """Boxes that are read alike: their rows (k,) among all, the cells (k * h * w,) of a level that they touch.

    down (k, m, h) and across (k, m, w) are how much each bin takes of each line and column of these.
    """

    level: int
    rows: torch.Tensor
    cells: torch.Tensor
    down: torch.Tensor
    across: torch.Tensor

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """All cells of the level (cells, c) -> (k, m, m, c)."""
        down, across = self.down.to(values.dtype), self.across.to(values.dtype)
        (count, bins, height), width = down.shape, across.shape[2]
        lines = down @ values[self.cells].view(count, height, -1)
        return across[:, None] @ lines.view(count, bins, width, -1)  # (k, 1, m, w) @ (k, m, w, c)

    def give(self, pooled: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add what the gradients (n, m, m, c) of the bins of all boxes mean for the cells to theirs, (cells, c)."""
        lines = self.across.mT[:, None] @ pooled[self.rows]  # (k, 1, w, m) @ (k, m, m, c)
        gradient.index_add_(0, self.cells, (self.down.mT @ lines.flatten(2)).view(len(self.cells), -1))


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where boxes read: the bins along a side, each box's level (n,), image (n,) and cells."""

    bins: int
    level: torch.Tensor
    image: torch.Tensor
    grid: _Grid

    def parts(self, maps: Sequence[torch.Tensor]) -> Iterator[_Part]:
        """The boxes in groups of those that are read alike."""
        keys = torch.column_stack([self.level, self.grid.windows, self.grid.samples])
        for (level, width, height, *samples), rows in _alike(keys):
            before = self.image * (maps[level].shape[2] * maps[level].shape[3])  # (n,) cells of the images before
            for some in rows.split(max(1, CELLS_AT_ONCE // (width * height))):
                across, down = (self.grid.weights(some, axis, (width, height)[axis], samples[axis]) for axis in (0, 1))
                yield _Part(level, some, self.grid.cells(some, width, height, before), down, across)


def _plan(pooler: MultiScaleRoIAlign, maps: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]) -> _Plan:
    every = torch.cat(list(boxes))
    octaves = [FINEST_OCTAVE + index for index in range(len(maps))]  # 2, 3, 4, 5: strides of 4 to 32 pixels
    level = _fitting_level(every, pooler, octaves)
    cells_xy = torch.tensor([[m.shape[3], m.shape[2]] for m in maps], device=every.device)[level]  # (n, 2)
    scaled = every * torch.tensor([0.5**o for o in octaves], device=every.device)[level][:, None]
    is_aligned = isinstance(pooler, FixedStrideRoIAlign) and pooler.is_aligned
    start, end = (scaled - 0.5 if is_aligned else scaled).split(2, dim=1)
    size = end - start if is_aligned else (end - start).clamp(min=1)
    image = torch.cat([torch.full((len(some),), i, device=every.device) for i, some in enumerate(boxes)])
    bins = pooler.output_size[0]
    return _Plan(bins, level, image, _Grid(start, size, cells_xy, bins, pooler.sampling_ratio))


def _pool(maps: Sequence[torch.Tensor], plan: _Plan) -> tuple[torch.Tensor, list[_Part]]:
    """Maps (b, c, h, w) -> what each box reads of them (n, c, m, m), and how."""
    channels = maps[0].shape[1]
    pooled = maps[0].new_empty(len(plan.level), plan.bins, plan.bins, channels)
    cells = [m.permute(0, 2, 3, 1).reshape(-1, channels) for m in maps]
    parts = []
    with torch.autocast(pooled.device.type, enabled=False):
        for part in plan.parts(maps):
            pooled[part.rows] = part.take(cells[part.level])
            parts.append(part)
    return pooled.permute(0, 3, 1, 2), parts


def _fitting_level(boxes: torch.Tensor, pooler: MultiScaleRoIAlign, octaves: Sequence[int]) -> torch.Tensor:
    """The level (n,) that each box is read from, by its size (equation 1 of Lin et al. 2017)."""
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    wanted = torch.floor(pooler.canonical_level + torch.log2(sides / pooler.canonical_scale) + 1e-6)
    return wanted.clamp(octaves[0], octaves[-1]).long() - octaves[0]


class _Grid:
    """Where boxes read a feature level: all in cells, x before y.

    `windows` (n, 2) is how many cells each box touches, `samples` (n, 2) how often each of its bins is read along an
    axis.
    """

    def __init__(
        self, start: torch.Tensor, size: torch.Tensor, cells_xy: torch.Tensor, bins: int, samples: int
    ) -> None:
        self.start, self.size, self.bins, self.last = start, size, bins, cells_xy - 1
        wanted = torch.full_like(cells_xy, samples) if samples > 0 else torch.ceil(size / bins).long()
        self.is_read = wanted > 0  # a box without a size has no cells to sample
        self.samples = wanted.clamp(min=1)
        half = 0.5 / (bins * self.samples)  # (n, 2): from a side of the box to its outermost samples
        lowest, highest = start + size * half, start + size * (1 - half)
        self.first = torch.minimum(lowest.clamp(min=0), self.last).long()
        after = torch.minimum(torch.minimum(highest.clamp(min=0), self.last).long() + 1, self.last)
        self.windows = (after - self.first).add(STEP).div(STEP, rounding_mode="floor").mul(STEP)

    def cells(self, some: torch.Tensor, width: int, height: int, before: torch.Tensor) -> torch.Tensor:
        """Row-major numbers of the cells in the windows, (k * h * w,); `before` (n,): cells before a box's image."""
        xs, ys = (
            torch.minimum(self.first[some, axis, None] + torch.arange(length), self.last[some, axis, None])
            for axis, length in ((0, width), (1, height))
        )
        rows = ys[:, :, None] * (self.last[some, 0] + 1)[:, None, None]
        return (before[some, None, None] + rows + xs[:, None]).flatten()

    def weights(self, some: torch.Tensor, axis: int, length: int, samples: int) -> torch.Tensor:
        """How much each bin takes of each cell of the windows, (n, m, length); of a box without a size nothing."""
        columns = (self.start, self.size, self.last, self.is_read)
        start, size, last, is_read = (values[some, axis, None] for values in columns)
        count = self.bins * samples
        at = start + size * ((torch.arange(count, device=start.device) + 0.5) / count)  # (n, m * s)
        is_inside = (at <= last + 1) & is_read  # what reaches further beyond reads nothing
        at = torch.minimum(at.clamp(min=0), last)
        cells = self.first[some, axis, None] + torch.arange(length, device=start.device)
        weights = (1 - (at[..., None] - cells[:, None]).abs()).clamp(min=0) * is_inside[..., None]
        return weights.unflatten(1, (-1, samples)).mean(2)  # (n, m * s, length) -> (n, m, length)


def _alike(keys: torch.Tensor) -> list[tuple[list[int], torch.Tensor]]:
    """Each distinct row of keys (n, k), and the indices of the rows that are equal to it."""
    distinct, belongs_to, counts = keys.unique(dim=0, return_inverse=True, return_counts=True)
    return list(zip(distinct.tolist(), belongs_to.argsort().split(counts.tolist()), strict=True))
