"""Multiply-accumulates of a graph, the measure of how much of a model's work is hidden."""

from __future__ import annotations

import math

from suite.graph.ir import Graph, Node, Op


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node for one image; convolutions and linear layers count, the rest is 0."""
    if node.op is Op.CONV2D:
        return math.prod(graph.shapes[node.output]) * math.prod(node.weights["weight"].shape[1:])
    if node.op is Op.LINEAR:
        return math.prod(node.weights["weight"].shape)
    return 0


def int8_macs(graph: Graph) -> int:
    """The part of :func:`graph_macs` that is done on int8."""
    return sum(node_macs(graph, node) for node in graph.nodes if node.is_quantized)


def graph_macs(graph: Graph) -> int:
    """The sum over a graph's nodes."""
    return sum(node_macs(graph, node) for node in graph.nodes)
