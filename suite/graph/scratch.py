"""Working memory of the C kernels: the Python twin of ``*_scratch_bytes()``; a test compares them."""

from __future__ import annotations

from suite.graph import scratch_i8
from suite.graph.ir import Graph, Node, Op
from suite.graph.packing import layout_of
from suite.graph.wire import LANES, Layout, aligned

# Of ta/kernels/conv2d.c.
_CHUNK_PIXELS = 48
_PANEL_FLOATS = 6144
_STEP = 16
_POSITION_BYTES = 16
_RUN_BYTES = 8


def scratch_bytes(graph: Graph, node: Node) -> int:
    """Bytes of scratch that the kernel of ``node`` needs; only convolutions and int8 linear layers need any."""
    if node.is_quantized:
        return scratch_i8.scratch_bytes(graph, node)
    if node.op is not Op.CONV2D:
        return 0
    if layout_of(graph, node, "weight") is Layout.PLAIN:
        return _depthwise(graph, node)
    return _conv2d(graph, node)


def _span(out: int, stride: int, kernel: int, dilation: int) -> int:
    """How many input rows (or columns, padding included) ``out`` outputs read."""
    return (out - 1) * stride + (kernel - 1) * dilation + 1


def _conv2d(graph: Graph, node: Node) -> int:
    a = node.attrs
    out_channels, group_in, kernel_h, kernel_w = node.weights["weight"].shape
    _, out_h, out_w = graph.shapes[node.output]
    taps = group_in * kernel_h * kernel_w
    width = -(-min(_CHUNK_PIXELS, out_h * out_w) // 4) * 4
    pass_taps = min(taps, _PANEL_FLOATS // width)
    panel = 4 * (pass_taps * width + _STEP)
    band = 0
    if a["pad_h"] or a["pad_w"]:
        rows = min(out_h, (_CHUNK_PIXELS - 2) // out_w + 2)
        band_h = _span(rows, a["stride_h"], kernel_h, a["dilation_h"])
        band_w = _span(out_w, a["stride_w"], kernel_w, a["dilation_w"])
        band = 4 * (band_h * band_w + _STEP)
    partial = 0
    if taps > pass_taps:
        blocks = -(-(out_channels // a["groups"]) // LANES)
        partial = blocks * width * 4 * LANES
    parts = (_POSITION_BYTES * kernel_h * kernel_w, _RUN_BYTES * pass_taps, panel, band, partial)
    return sum(aligned(part) for part in parts)


def _depthwise(graph: Graph, node: Node) -> int:
    a = node.attrs
    kernel_h, kernel_w = node.weights["weight"].shape[2:]
    _, out_h, out_w = graph.shapes[node.output]
    rows = _span(out_h, a["stride_h"], kernel_h, a["dilation_h"])
    columns = _span(out_w, a["stride_w"], kernel_w, a["dilation_w"])
    phase_width = -(-columns // a["stride_w"]) + LANES
    return aligned(4 * phase_width * a["stride_w"] * rows)
