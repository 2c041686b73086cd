"""Passes over a graph that keep what it computes: dead nodes go, batch norms are folded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from suite.graph.ir import Graph, Node, Op


def without_dead_nodes(graph: Graph) -> Graph:
    """Drop the nodes that no output depends on."""
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return _with_nodes(graph, tuple(reversed(kept)))


def fold_batch_norms(graph: Graph) -> Graph:
    """Multiply each batch norm into the convolution or linear layer before it, if nothing else reads that.

    Computed in float64. The layer keeps its name and makes the tensor that the batch norm made.
    """
    readers = Counter(tensor for node in graph.nodes for tensor in node.inputs)
    readers.update(graph.outputs)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        before = nodes.get(node.inputs[0])
        if (
            node.op is Op.BATCH_NORM
            and before is not None
            and before.op in (Op.CONV2D, Op.LINEAR)
            and readers[before.output] == 1
        ):
            del nodes[before.output]
            nodes[node.output] = _folded(before, node)
        else:
            nodes[node.output] = node
    return _with_nodes(graph, tuple(nodes.values()))


def _folded(layer: Node, norm: Node) -> Node:
    scale = norm.weights["scale"].astype(np.float64)
    weight = layer.weights["weight"].astype(np.float64)
    weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = layer.weights["bias"].astype(np.float64) * scale + norm.weights["shift"]
    weights = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return replace(layer, output=norm.output, weights=weights)


def _with_nodes(graph: Graph, nodes: tuple[Node, ...]) -> Graph:
    kept = {*graph.inputs, *(node.output for node in nodes)}
    shapes = {t: s for t, s in graph.shapes.items() if t in kept}
    return replace(graph, nodes=nodes, shapes=shapes, scales={t: s for t, s in graph.scales.items() if t in kept})
