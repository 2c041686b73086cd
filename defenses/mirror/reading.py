"""A victim as a companion branch's backbone, and where the branch can read it."""

from __future__ import annotations

from dataclasses import dataclass

from suite.graph.ir import Graph, Node, Op
from suite.graph.reading import bottlenecks, ends_of_stages


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
    readable = bottlenecks(bare, behind=2)
    if len(layers) < 3 or not readable:
        raise ValueError(
            f"{victim} has no map that a companion branch could read: it needs a convolution before the map, and one"
            " more layer with weights and the classifier behind it"
        )
    return Backbone(bare, logits, layers[-1], readable, ends_of_stages(bare, readable))
