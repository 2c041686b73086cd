"""Steps: what the kernels run, a node and the activation function that its kernel applies on the way out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from suite.graph.ir import Graph, Node, Op

FUSES_INTO = frozenset({Op.CONV2D, Op.LINEAR, Op.BATCH_NORM, Op.ADD})
"""Operators whose kernels can apply a ReLU to their result."""

ACTIVATIONS = frozenset({Op.RELU, Op.RELU6})


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call: ``node``, then ``fused`` (RELU, RELU6 or None) in one pass, into tensor ``output``."""

    node: Node
    fused: Op | None
    output: str


def fuse(graph: Graph) -> tuple[Step, ...]:
    """The kernel calls of ``graph`` in order.

    A ReLU disappears into the operator before it when nothing else reads, and no caller wants, the tensor
    between them.
    """
    readers = Counter(tensor for node in graph.nodes for tensor in node.inputs)
    maker = {node.output: node for node in graph.nodes}
    activation_of: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op not in ACTIVATIONS:
            continue
        source = node.inputs[0]
        before = maker.get(source)
        if before is None or (before.is_quantized and source not in graph.scales):
            continue  # an int8 operator that leaves floats keeps no limits
        if before.op in FUSES_INTO and readers[source] == 1 and source not in graph.outputs:
            activation_of[before.name] = node
    gone = {node.name for node in activation_of.values()}
    steps = []
    for node in graph.nodes:
        if node.name in gone:
            continue
        activation = activation_of.get(node.name)
        if activation is None:
            steps.append(Step(node, None, node.output))
        else:
            steps.append(Step(node, activation.op, activation.output))
    return tuple(steps)
