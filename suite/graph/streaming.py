"""Depth-wise partitioning: filters that do not fit into the secure world come into it slice by slice.

A filter is cut along its output channels. The normal world keeps the slices, each sealed by itself; during a query it
hands them over in order, and the TA authenticates a slice, opens it, computes its output channels and overwrites it
with the next. So the secure world's peak is bounded by a budget: what fits stays there, opened once, and only as much
as must is streamed, since every streamed byte costs its decryption in every query.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from suite.graph.format import can_stream, slice_sizes
from suite.graph.ir import Graph, Node
from suite.graph.packing import stored_floats
from suite.graph.partition import Segment, split
from suite.graph.planner import plan_memory, plan_tee
from suite.graph.wire import I8_LANES, Layout

SLICE_BYTES = 256 * 1024
"""The largest slice, unless four channels alone are larger."""
_GRAIN = 1024
"""Bytes are counted in these when the least to stream is looked for."""


def slices_of(node: Node, slice_bytes: int) -> tuple[int, ...]:
    """Output channels of each slice of an int8 layer: what ``slice_bytes`` hold, a multiple of 4, at least 4."""
    channels = len(node.weights["bias"])
    taps = math.prod(node.weights["weight"].shape[1:])
    four = stored_floats((I8_LANES, taps), Layout.DOT4, 1)
    most = max(slice_bytes // four, 1) * I8_LANES
    return tuple(min(most, channels - first) for first in range(0, channels, most))


def streamed_bytes(segments: Collection[Segment]) -> int:
    """Bytes of filters that every query brings into the secure world."""
    return sum(size for segment in segments for node in segment.graph.nodes for size in slice_sizes(node))


def fit(
    graph: Graph, in_tee: Collection[str], budget_bytes: int, slice_bytes: int = SLICE_BYTES
) -> tuple[Segment, ...]:
    """``graph`` with the nodes ``in_tee`` hidden, and as few bytes of their filters streamed as the budget asks for.

    Raises:
        DoesNotFit: even with every filter in slices the secure world needs more than ``budget_bytes``.
        GraphError: ``in_tee`` names a node that the graph does not have.
    """
    plan = plan_memory(split(graph, in_tee))
    if plan.peak_bytes <= budget_bytes:
        return split(graph, in_tee)
    sizes = {
        node.name: stored_floats(node.weights["weight"].shape, Layout.DOT4, 1)
        for node in graph.nodes
        if node.name in in_tee and can_stream(node)
    }
    short = plan.peak_bytes - budget_bytes
    while True:
        chosen = _least(sizes, short)
        segments = split(_with_slices(graph, chosen, slice_bytes), in_tee)
        plan = plan_memory(segments)
        if plan.peak_bytes <= budget_bytes:
            return segments
        if len(chosen) == len(sizes):
            return _refused(segments, budget_bytes)
        short += plan.peak_bytes - budget_bytes


def _refused(segments: tuple[Segment, ...], budget_bytes: int) -> tuple[Segment, ...]:
    plan_tee(segments, budget_bytes)  # raises: its message names the largest layers
    return segments


def _with_slices(graph: Graph, chosen: Collection[str], slice_bytes: int) -> Graph:
    nodes = (replace(n, slices=slices_of(n, slice_bytes)) if n.name in chosen else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _least(sizes: Mapping[str, int], short: int) -> frozenset[str]:
    """The layers of least total size that is ``short`` or more; all of them when that does not suffice."""
    wanted = -(-short // _GRAIN)
    best: dict[int, frozenset[str]] = {0: frozenset()}  # total in grains, capped at `wanted` where it need not grow
    for name, size in sizes.items():
        for total, names in sorted(best.items(), reverse=True):
            if total < wanted:
                best.setdefault(total + size // _GRAIN, names | {name})
    enough = [total for total in best if total >= wanted]
    return best[min(enough)] if enough else frozenset(sizes)
