"""Static placement of activations: tensors whose lives do not meet share bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.graph.fuse import fuse
from suite.graph.ir import Graph
from suite.graph.partition import Segment, World
from suite.graph.wire import aligned


@dataclass(frozen=True, slots=True)
class Life:
    """A tensor of ``size`` bytes that is needed from moment ``first`` to moment ``last``, both included."""

    tensor: str
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Where each tensor lies: byte offsets, multiples of 64, in a block of ``size`` bytes."""

    offsets: Mapping[str, int]
    size: int


def place(lives: Iterable[Life]) -> Arena:
    """Place the largest tensors first, each in the tightest gap between those that live at the same time."""
    placed: list[tuple[int, int, Life]] = []
    for life in sorted(lives, key=lambda one: (-one.size, one.first, one.tensor)):
        size = aligned(life.size)
        offset = _tightest_gap(
            size,
            sorted((a, b) for a, b, other in placed if other.first <= life.last and life.first <= other.last),
        )
        placed.append((offset, offset + size, life))
    offsets = {life.tensor: start for start, _, life in placed}
    return Arena(offsets, max((end for _, end, _ in placed), default=0))


def _tightest_gap(size: int, taken: Sequence[tuple[int, int]]) -> int:
    """The start of the smallest gap of ``size`` bytes or more in ``taken``, else the end of the last one."""
    best: tuple[int, int] | None = None
    end = 0
    for start, stop in taken:
        gap = start - end
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, stop)
    return end if best is None else best[1]


def lives(segments: Sequence[Segment]) -> list[Life]:
    """Lives over a whole query, one moment a kernel call; a TEE segment is a single moment.

    Tensors that exist only inside a TEE segment do not appear. What the first segment takes is there from the
    start, and what the last one makes stays until the end. A moment's inputs and outputs all live in it, so
    that no kernel writes over what it reads.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}
    moment = 0

    def touch(tensors: Iterable[str], graph: Graph) -> None:
        for tensor in tensors:
            first.setdefault(tensor, moment)
            last[tensor] = moment
            size[tensor] = graph.bytes_of(tensor)

    touch(segments[0].graph.inputs, segments[0].graph)
    for segment in segments:
        graph = segment.graph
        if segment.world is World.TEE:
            touch((*graph.inputs, *graph.outputs), graph)
            moment += 1
            continue
        for step in fuse(graph):
            touch((*step.node.inputs, step.output), graph)
            moment += 1
    touch(segments[-1].graph.outputs, segments[-1].graph)
    return [Life(tensor, size[tensor], first[tensor], last[tensor]) for tensor in first]


def place_public(segments: Sequence[Segment]) -> Arena:
    """The normal world's arena of a query through ``segments``."""
    return place(lives(segments))


def place_sealed(graph: Graph) -> Arena:
    """The secure world's arena for one TEE segment, planned as if it were a query of its own."""
    return place(lives([Segment(World.REE, graph)]))
