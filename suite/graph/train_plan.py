"""How much more memory the TA needs to train than to answer: the twin of ``lb_train_plan()``; a test compares them.

Training holds every activation of the hidden segments and its gradient, gradients and velocities of their weights, and
the largest scratch of any kernel, forward or backward. It comes beside what :mod:`suite.graph.planner` counts, since
the model goes on answering queries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from suite.graph.fuse import fuse
from suite.graph.ir import Graph, Node, Op
from suite.graph.packing import layout_of, stored_floats
from suite.graph.partition import Segment, World
from suite.graph.scratch import scratch_bytes
from suite.graph.wire import LANES, TENSOR, Layout, aligned

# Of ta/kernels/conv2d_backward_weight.c.
_CHUNK_PIXELS = 64
_PANEL_TAPS = 96
_COPY = 4
_TILE_SLACK = 8


def training_bytes(segments: Sequence[Segment]) -> int:
    """Bytes of the one block that the TA allocates to train the hidden segments; 0 when nothing is hidden."""
    hidden = [segment.graph for segment in segments if segment.world is World.TEE]
    if not hidden:
        return 0
    tensors = values = weights = spare = scratch = 0
    for graph in hidden:
        steps = fuse(graph)
        names = [*graph.inputs, *(step.output for step in steps)]
        values += sum(aligned(graph.bytes_of(name)) for name in names)
        tensors += len(names)
        for step in steps:
            stored = _stored_bytes(graph, step.node)
            tensors += len(stored)
            weights += sum(stored)
            scratch = max(scratch, scratch_bytes(graph, step.node), _backward_scratch(graph, step.node))
        readers = Counter(name for step in steps for name in step.node.inputs)
        readers.update(graph.outputs)
        spare = max([spare, *(graph.bytes_of(name) for name, n in readers.items() if n > 1)])
    parts = (tensors * TENSOR.itemsize, tensors, values, values, weights, weights, spare, scratch)
    return sum(aligned(part) for part in parts)


def _stored_bytes(graph: Graph, node: Node) -> list[int]:
    groups = node.attrs.get("groups", 1)
    return [aligned(4 * stored_floats(a.shape, layout_of(graph, node, key), groups)) for key, a in node.weights.items()]


def _backward_scratch(graph: Graph, node: Node) -> int:
    if node.op is not Op.CONV2D or layout_of(graph, node, "weight") is Layout.PLAIN:
        return 0
    return max(_backward_input(graph, node), _backward_weight(graph, node))


def _backward_input(graph: Graph, node: Node) -> int:
    a, weight = node.attrs, node.weights["weight"]
    channels, in_h, in_w = graph.shapes[node.inputs[0]]
    out_channels, out_h, out_w = graph.shapes[node.output]
    groups = a["groups"]
    spans = [a[f"dilation_{d}"] * (k - 1) for d, k in zip("hw", weight.shape[2:], strict=True)]
    spread = (a["stride_h"], a["stride_w"]) != (1, 1) or a["pad_h"] > spans[0] or a["pad_w"] > spans[1]
    size = (in_h + spans[0], in_w + spans[1]) if spread else (out_h, out_w)
    pads = (0, 0) if spread else (spans[0] - a["pad_h"], spans[1] - a["pad_w"])
    attrs = {**a, "stride_h": 1, "stride_w": 1, "pad_h": pads[0], "pad_w": pads[1]}
    turned_weight = weight.transpose(1, 0, 2, 3)[:1].repeat(channels, 0)[:, : out_channels // groups]
    turned = Node("turned", Op.CONV2D, ("d_out",), "d_in", "", attrs, {"weight": turned_weight})
    shapes = {"d_out": (out_channels, *size), "d_in": (channels, in_h, in_w)}
    blocks = -(-(channels // groups) // LANES)
    parts = (
        4 * groups * blocks * LANES * (out_channels // groups) * math.prod(weight.shape[2:]),
        4 * channels,
        4 * out_channels * size[0] * size[1] if spread else 0,
        scratch_bytes(Graph(("d_out",), ("d_in",), (turned,), shapes), turned),
    )
    return sum(aligned(part) for part in parts)


def _backward_weight(graph: Graph, node: Node) -> int:
    a = node.attrs
    out_channels, group_in, kernel_h, kernel_w = node.weights["weight"].shape
    _, out_h, out_w = graph.shapes[node.output]
    rows = (out_h - 1) * a["stride_h"] + (kernel_h - 1) * a["dilation_h"] + 1
    columns = (out_w - 1) * a["stride_w"] + (kernel_w - 1) * a["dilation_w"] + 1
    width = max(_PANEL_TAPS // kernel_w, 1) * kernel_w + _COPY
    blocks = -(-(out_channels // a["groups"]) // LANES)
    parts = (
        4 * (group_in * rows * columns + _COPY),
        4 * (_CHUNK_PIXELS * width + _TILE_SLACK),
        4 * blocks * _CHUNK_PIXELS * LANES,
    )
    return sum(aligned(part) for part in parts)
