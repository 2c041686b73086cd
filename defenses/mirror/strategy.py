"""CPM Strategy Generator: which maps a companion branch reads, how wide and how deep it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from defenses.mirror.reading import Backbone

WIDTHS = (16, 32, 64, 128)
DEPTHS = (0, 1, 2)
GRIDS = (2, 4, 8)
MOST_TAPS = 3


@dataclass(frozen=True, slots=True)
class Strategy:
    """One companion branch (CPM).

    ``taps``: tensors of the backbone that it reads, first to last; each is brought to at most ``grid`` x ``grid`` in
    the normal world before it crosses: averaged, or, with ``sampled``, averaged over a quarter of its pixels, which
    costs that world less than half. ``width``: channels of the branch; ``depth``: 3x3 convolutions after each tap.
    """

    taps: tuple[str, ...]
    width: int
    depth: int
    grid: int
    sampled: bool = False

    def __str__(self) -> str:
        return f"{'+'.join(self.taps)} width {self.width} depth {self.depth} grid {self.grid}" + (
            " sampled" if self.sampled else ""
        )


def strategies(backbone: Backbone) -> Iterator[Strategy]:
    """Every strategy for ``backbone``: each readable map as the last tap, with the ends of stages before it.

    Strategies that differ in nothing (a grid larger than the maps) are given once. A branch that reads one map alone
    mirrors nothing; it is given only for a backbone without two stages.
    """
    several = len(backbone.stages) > 1
    for at, deepest in enumerate(backbone.readable):
        before = [tensor for tensor in backbone.stages if backbone.readable.index(tensor) < at]
        before = [tensor for tensor in before if _size(backbone, tensor) > _size(backbone, deepest)]
        for n_before in range(int(several), min(MOST_TAPS - 1, len(before)) + 1):
            taps = (*before[len(before) - n_before :], deepest)
            largest = max(_size(backbone, tensor) for tensor in taps)
            grids = sorted({min(grid, largest) for grid in GRIDS})
            for width, depth, grid in itertools.product(WIDTHS, DEPTHS, grids):
                yield Strategy(taps, width, depth, grid)
                if grid < largest:
                    yield Strategy(taps, width, depth, grid, sampled=True)


def _size(backbone: Backbone, tensor: str) -> int:
    return max(backbone.graph.shapes[tensor][1:])
