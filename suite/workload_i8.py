"""How often the int8 kernels do each thing that takes time, counted from shapes as ``ta/kernels`` walk them.

The blocking is that of ``conv2d_i8.c`` with ``lb_dot_i8.h``, ``conv2d_depthwise_i8.c``, ``linear_i8.c``, ``pool_i8.c``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from suite.graph.ir import Graph, Node, Op
from suite.workload import Axis, axes, is_depthwise

_LANES, _STEP, _BAND_PIXELS, _COLUMN_BYTES, _MAX_COLUMNS = 4, 16, 64, 32768, 64
_SINGLE_MOST = 64

COUNTS = (
    "int8.dots", "int8.steps", "int8.runs", "int8.calls", "int8.outputs", "int8.odd_outputs", "int8.band",
    "int8.windows", "int8.gathered", "int8.window_bytes",
    "int8.depthwise.taps", "int8.depthwise.odd_taps", "int8.depthwise.outputs",
    "int8.linear.dots", "int8.linear.steps", "int8.linear.outputs",
    "int8.add.outputs", "int8.clamp.outputs", "int8.copied", "int8.concat.outputs",
    "int8.max_pool.taps", "int8.max_pool.outputs", "int8.avg_pool.taps",
    "int8.avg_pool.vectors", "int8.avg_pool.outputs",
    "int8.quantized", "int8.dequantized",
)  # fmt: skip
"""What :func:`work` counts. ``int8.dots``: 16 products of a pixel for 4 channels; ``steps``: passes through their loop;
``runs``: stretches of the window; ``band``: bytes copied with padding; ``windows``, ``gathered``, ``window_bytes``:
pixels whose windows are laid side by side, stretches copied for that, and their room; ``odd``: in blocks of fewer
channels than a vector has."""


def work(graph: Graph, node: Node) -> Mapping[str, float]:
    """Counts of one call of an int8 kernel; those that are 0 may be absent."""
    n = math.prod(graph.shapes[node.output])
    match node.op:
        case Op.CONV2D:
            return _depthwise(graph, node) if is_depthwise(graph, node) else _conv2d(graph, node)
        case Op.LINEAR:
            return _linear(*node.weights["weight"].shape)
        case Op.MAX_POOL2D | Op.AVG_POOL2D:
            return _pool(graph, node)
        case Op.ADAPTIVE_AVG_POOL2D:
            return _adaptive(graph, node)
        case Op.QUANTIZE:
            return {"int8.quantized": n}
        case Op.DEQUANTIZE:
            return {"int8.dequantized": n}
        case Op.FLATTEN:
            return {"int8.copied": n}
        case Op.RELU | Op.RELU6:
            return {"int8.clamp.outputs": n}
    return {f"int8.{node.op}.outputs": n}


def _single_pays(columns: Axis) -> bool:
    return columns.out <= _SINGLE_MOST and columns.all_taps() * 10 < columns.kernel * columns.out * 9


def _conv2d(graph: Graph, node: Node) -> Mapping[str, float]:
    rows, columns = axes(graph, node)
    groups = node.attrs["groups"]
    out_channels, group_in, *_ = node.weights["weight"].shape
    group_out = out_channels // groups
    blocks, pixels = -(-group_out // _LANES), rows.out * columns.out
    side_by_side = groups == 1 and columns.dilation == 1
    found = dict.fromkeys(COUNTS[:10], 0.0)
    odd = group_out % _LANES
    found["int8.outputs"] = groups * pixels * (group_out - odd)
    found["int8.odd_outputs"] = groups * pixels * odd
    if group_in % _STEP:
        steps = -(-(group_in * rows.kernel * columns.kernel) // _STEP)
        most = min((_COLUMN_BYTES // (steps * _STEP) + 3) // 4 * 4, _MAX_COLUMNS)
        most = min(max(most, 4), pixels)
        calls = sum(_row_calls(min(most, pixels - first)) for first in range(0, pixels, most)) * blocks
        found["int8.windows"] = groups * pixels
        found["int8.window_bytes"] = groups * pixels * steps * _STEP
        stretches = rows.all_taps() * (columns.out if side_by_side else columns.all_taps())
        found["int8.gathered"] = groups * stretches
        found["int8.dots"] = groups * steps * pixels * blocks
        found["int8.steps"] = groups * steps * calls
        found["int8.runs"] = found["int8.calls"] = groups * calls
        return found
    unit = group_in // _STEP
    if _single_pays(columns):
        calls = blocks // 4 + blocks % 4
        met = rows.all_taps() * columns.all_taps()
        runs = rows.all_taps() * (columns.out if side_by_side else columns.all_taps())
        found["int8.dots"] = groups * blocks * met * unit
        found["int8.steps"] = groups * calls * met * unit
        found["int8.runs"] = groups * calls * runs
        found["int8.calls"] = groups * calls * pixels
        return found
    calls = _row_calls(columns.out)
    met = rows.all_taps() * columns.kernel
    found["int8.dots"] = groups * blocks * met * columns.out * unit
    found["int8.steps"] = groups * blocks * met * calls * unit
    found["int8.runs"] = groups * blocks * calls * rows.all_taps() * (1 if side_by_side else columns.kernel)
    found["int8.calls"] = groups * blocks * calls * rows.out
    if columns.pad:
        band = min(rows.out, -(-_BAND_PIXELS // columns.out))
        inputs = sum(rows.span_of(min(band, rows.out - y)) for y in range(0, rows.out, band))
        found["int8.band"] = inputs * columns.spanned * group_in * groups
    return found


def _row_calls(pixels: int) -> int:
    """Calls of the dot product for a row: 4 pixels at a time, then 2, then 1."""
    return pixels // 4 + (0, 1, 1, 2)[pixels % 4]


def _depthwise(graph: Graph, node: Node) -> Mapping[str, float]:
    rows, columns = axes(graph, node)
    channels = len(node.weights["weight"])
    taps = rows.all_taps() * columns.all_taps()
    return {
        "int8.depthwise.taps": taps * (channels // _STEP),
        "int8.depthwise.odd_taps": taps * (channels % _STEP),
        "int8.depthwise.outputs": rows.out * columns.out * channels,
    }


def _linear(outputs: int, inputs: int) -> Mapping[str, float]:
    blocks, steps = -(-outputs // _LANES), -(-inputs // _STEP)
    return {
        "int8.linear.dots": steps * blocks,
        "int8.linear.steps": steps * (blocks // 4 + blocks % 4),
        "int8.linear.outputs": outputs,
    }


def _pool(graph: Graph, node: Node) -> Mapping[str, float]:
    rows, columns = axes(graph, node)
    name = "max_pool" if node.op is Op.MAX_POOL2D else "avg_pool"
    channels = graph.shapes[node.output][0]
    taps, outputs, vectors = rows.all_taps() * columns.all_taps(), rows.out * columns.out, -(-channels // _STEP)
    if name == "max_pool":
        return {"int8.max_pool.taps": taps * vectors, "int8.max_pool.outputs": outputs * vectors}
    return _averaged(taps, outputs, channels)


def _averaged(taps: int, outputs: int, channels: int) -> Mapping[str, float]:
    return {
        "int8.avg_pool.taps": taps * channels,
        "int8.avg_pool.vectors": taps * -(-channels // _STEP),
        "int8.avg_pool.outputs": outputs * channels,
    }


def _adaptive(graph: Graph, node: Node) -> Mapping[str, float]:
    (_, height, width), (channels, out_h, out_w) = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    taps = math.prod(
        sum(-(-(o + 1) * size // out) - o * size // out for o in range(out))
        for size, out in ((height, out_h), (width, out_w))
    )
    return _averaged(taps, out_h * out_w, channels)
