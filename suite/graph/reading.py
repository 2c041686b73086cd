"""Where a model can be read on the way: tensors on which all that comes after depends, and nothing else."""

from __future__ import annotations

from suite.graph.fuse import ACTIVATIONS
from suite.graph.ir import Graph, Op

_UNSETTLING = ACTIVATIONS | {Op.LEAKY_RELU, Op.BATCH_NORM}
"""A map that one of these reads is not the layer's result yet."""
_POOLS = frozenset({Op.MAX_POOL2D, Op.AVG_POOL2D, Op.ADAPTIVE_AVG_POOL2D})
"""What they make holds nothing that the map before them does not."""


def bottlenecks(graph: Graph, behind: int) -> tuple[str, ...]:
    """Settled maps (C, H, W), first to last, that alone lead from what is before them to what is behind them.

    At least one layer with weights is before each, and at least ``behind`` are behind it.
    """
    nodes = graph.nodes
    last_use = {tensor: at for at, node in enumerate(nodes) for tensor in node.inputs}
    readers: dict[str, list[Op]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node.op)
    weighted = [at for at, node in enumerate(nodes) if node.has_parameters]
    found = []
    needed_until = last_use.get(graph.inputs[0], -1)
    for at, node in enumerate(nodes):
        alone = needed_until <= at
        needed_until = max(needed_until, last_use.get(node.output, -1))
        if not alone or len(graph.shapes[node.output]) != 3 or node.op in _POOLS:
            continue
        settled = not any(op in _UNSETTLING for op in readers.get(node.output, ()))
        if settled and weighted and weighted[0] <= at and sum(one > at for one in weighted) >= behind:
            found.append(node.output)
    return tuple(found)


def ends_of_stages(graph: Graph, readable: tuple[str, ...]) -> tuple[str, ...]:
    """Of the maps ``readable`` the last of each size, which is where a stage ends."""
    ends = {graph.shapes[tensor][1:]: tensor for tensor in readable}
    return tuple(tensor for tensor in readable if tensor in ends.values())
