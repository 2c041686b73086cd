"""Working memory of the int8 kernels: the Python twin of ``lb_*_i8_scratch_bytes()``; a test compares them."""

from __future__ import annotations

import math

from suite.graph.ir import Graph, Node, Op
from suite.graph.packing import layout_of
from suite.graph.wire import I8_STEP, Layout, aligned

# Of ta/kernels/conv2d_i8.c.
_BAND_PIXELS = 64
_COLUMN_BYTES = 32768
_MAX_COLUMNS = 64
_RUN_BYTES = 12
_SINGLE_MAX_WIDTH = 64


def scratch_bytes(graph: Graph, node: Node) -> int:
    """Bytes of scratch of a convolution or linear layer on int8."""
    if node.op is Op.LINEAR:
        return aligned(-(-node.weights["weight"].shape[1] // I8_STEP) * I8_STEP)
    if layout_of(graph, node, "weight") is Layout.CHANNELS_LAST:
        return 0
    a = node.attrs
    _, group_in, kernel_h, kernel_w = node.weights["weight"].shape
    channels, _, _ = graph.shapes[node.inputs[0]]
    _, out_h, out_w = graph.shapes[node.output]
    if group_in % I8_STEP:
        window = -(-group_in * kernel_h * kernel_w // I8_STEP) * I8_STEP
        columns = min(-(-(_COLUMN_BYTES // window) // 4) * 4, _MAX_COLUMNS)
        columns = min(max(columns, 4), out_h * out_w)
        return aligned(_RUN_BYTES) + aligned(columns * window)
    side_by_side = a["groups"] == 1 and a["dilation_w"] == 1 and kernel_w > 1
    runs = aligned(_RUN_BYTES * kernel_h * (1 if side_by_side else kernel_w))
    if not a["pad_w"] or _single_pays(graph, node):
        return runs
    rows = min(out_h, -(-_BAND_PIXELS // out_w))
    band_h = (rows - 1) * a["stride_h"] + (kernel_h - 1) * a["dilation_h"] + 1
    band_w = (out_w - 1) * a["stride_w"] + (kernel_w - 1) * a["dilation_w"] + 1
    return runs + aligned(math.prod((band_h, band_w, channels)))


def _single_pays(graph: Graph, node: Node) -> bool:
    a = node.attrs
    width, out_w = graph.shapes[node.inputs[0]][2], graph.shapes[node.output][2]
    kernel_w = node.weights["weight"].shape[3]
    if out_w > _SINGLE_MAX_WIDTH:
        return False
    met = sum(
        0 <= x * a["stride_w"] + k * a["dilation_w"] - a["pad_w"] < width for x in range(out_w) for k in range(kernel_w)
    )
    return bool(met * 10 < kernel_w * out_w * 9)
