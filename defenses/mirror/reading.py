"""Where a companion branch can read a backbone: tensors on which all that comes after depends, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from suite.graph.fuse import ACTIVATIONS
from suite.graph.ir import Graph, Node, Op

_UNSETTLING = ACTIVATIONS | {Op.LEAKY_RELU, Op.BATCH_NORM}
"""A map that one of these reads is not the layer's result yet."""
_POOLS = frozenset({Op.MAX_POOL2D, Op.AVG_POOL2D, Op.ADAPTIVE_AVG_POOL2D})
"""What they make holds nothing that the map before them does not."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A victim without its softmax, as the public part will be.

    ``graph`` ends in ``logits``, which the node ``head`` (the last with weights) makes or leads to. ``readable``: the
    maps (C, H, W) that the branch may read, first to last; after each come at least one more layer with weights and
    the head. ``stages``: of these the last of each size of map, which is where a stage ends.
    """

    graph: Graph
    logits: str
    head: Node
    readable: tuple[str, ...]
    stages: tuple[str, ...]


def backbone_of(victim: str, graph: Graph) -> Backbone:
    """What a branch could read of the exported model ``graph`` of the architecture ``victim``.

    Raises:
        ValueError: it has no map with a layer before and a layer and the head behind it.
    """
    last = graph.nodes[-1]
    logits = last.inputs[0] if last.op is Op.SOFTMAX else graph.outputs[0]
    body = graph.nodes[:-1] if last.op is Op.SOFTMAX else graph.nodes
    kept = {*graph.inputs, *(node.output for node in body)}
    bare = Graph(graph.inputs, (logits,), body, {t: s for t, s in graph.shapes.items() if t in kept})
    layers = bare.parameter_nodes()
    readable = _bottlenecks(bare)
    if len(layers) < 3 or not readable:
        raise ValueError(
            f"{victim} has no map that a companion branch could read: it needs a convolution before the map, and one"
            " more layer with weights and the classifier behind it"
        )
    ends = {bare.shapes[tensor][1:]: tensor for tensor in readable}  # the last of each size
    stages = tuple(tensor for tensor in readable if tensor in ends.values())
    return Backbone(bare, logits, layers[-1], readable, stages)


def _bottlenecks(graph: Graph) -> tuple[str, ...]:
    """Settled maps that alone lead from what is before them to what is behind them."""
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
        behind = sum(one > at for one in weighted)
        if settled and weighted and weighted[0] <= at and behind >= 2:
            found.append(node.output)
    return tuple(found)
