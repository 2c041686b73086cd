"""An int8 graph as the float32 graph that it stands for: the way to differentiate through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from suite.graph.ir import Graph, Node, Op, float_bits


def as_float(graph: Graph) -> Graph:
    """``graph`` with every int8 weight as the number it stands for, and no rounding of activations.

    Names and shapes stay; what turned float32 into int8 and back copies. A float graph is returned as it is.
    """
    if not graph.scales and not any(node.is_quantized for node in graph.nodes):
        return graph
    return Graph(graph.inputs, graph.outputs, tuple(_as_float(graph, node) for node in graph.nodes), graph.shapes)


def _as_float(graph: Graph, node: Node) -> Node:
    if node.op in (Op.QUANTIZE, Op.DEQUANTIZE):
        return replace(node, op=Op.LEAKY_RELU, attrs={"slope_bits": float_bits(1.0)})  # that is, a copy
    if not node.is_quantized:
        return node
    weight, bias, multiplier = (node.weights[key].astype(np.float64) for key in ("weight", "bias", "multiplier"))
    given = graph.scales.get(node.inputs[0], 1.0)
    step = multiplier * graph.scales.get(node.output, 1.0)  # of the sums: the input's scale times the weight's
    of_weight = (step / given).reshape(-1, *(1,) * (weight.ndim - 1))
    weights = {"weight": (weight * of_weight).astype(np.float32), "bias": (bias * step).astype(np.float32)}
    return replace(node, weights=weights, slices=())
