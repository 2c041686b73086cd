"""How often the float32 kernels do each thing that takes time, counted from shapes as ``ta/kernels`` walk them.

Counts are vector instructions, copies and calls, not multiply-accumulates alone: a convolution on small maps, or of few
channels, spends most of its time beside those. The blocking is that of ``conv2d.c``, ``conv2d_panel.h``,
``conv2d_depthwise.c`` and ``linear.c``; a count that no longer fits the kernels shows in a calibration's residuals.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from suite.graph.ir import Graph, Node, Op

LANES = 8
_CHUNK_PIXELS, _PANEL_FLOATS, _TILE_PIXELS, _STEP, _LONG_ROW = 48, 6144, 6, 16, 4
_UNROLLED = 4
_ROW_PIXELS = 32

COUNTS = (
    "conv2d.fma", "conv2d.taps", "conv2d.tiles", "conv2d.sums", "conv2d.packs", "conv2d.copied", "conv2d.gathered",
    "conv2d.band_rows", "conv2d.band", "conv2d.runs", "conv2d.listed", "conv2d.rest", "conv2d.bare",
    "depthwise.fma", "depthwise.taps", "depthwise.rows", "depthwise.copied", "depthwise.cleared", "depthwise.single",
    "linear.macs", "linear.steps", "linear.outputs",
    "relu.outputs", "relu6.outputs", "leaky_relu.outputs", "add.outputs", "batch_norm.outputs", "batch_norm.channels",
    "copied.bytes", "softmax.outputs",
    "max_pool_2x2.outputs", "max_pool_2x2.rows", "max_pool.outputs", "max_pool.rows", "max_pool.taps",
    "avg_pool.outputs", "avg_pool.rows", "avg_pool.taps",
)  # fmt: skip
"""What :func:`work` counts. ``conv2d.fma``: vector multiply-adds of 4 lanes; ``taps``: passes through a tile's inner
loop; ``sums``: vectors of sums taken up and put down; ``packs``, ``copied``, ``gathered``, ``band_rows``, ``band``: how
its inputs are laid side by side; ``runs``, ``listed``: stretches of taps where padding leaves some out, ``rest``: taps
beside those that the inner loop takes four at a time; ``bare``: copies where there is no padding. ``single``:
outputs of a row that fill no vector. The others are what they say."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a window that slides: sizes of input and output, and the window's."""

    size: int
    out: int
    kernel: int
    stride: int
    pad: int
    dilation: int

    @property
    def spanned(self) -> int:
        """Inputs, padding included, that all outputs reach over."""
        return self.span_of(self.out)

    def span_of(self, outputs: int) -> int:
        """Inputs, padding included, that so many neighbouring outputs reach over."""
        return (outputs - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    def positions(self) -> list[int]:
        """Positions of the window that meet an input at some output."""
        return [k for k in range(self.kernel) if any(self._inside(o, k) for o in range(self.out))]

    def taps(self, output: int) -> int:
        """Positions of the window that meet an input at ``output``."""
        return sum(self._inside(output, k) for k in range(self.kernel))

    def all_taps(self) -> int:
        """The sum over outputs."""
        return sum(self.taps(o) for o in range(self.out))

    def _inside(self, output: int, k: int) -> bool:
        return self.pad <= output * self.stride + k * self.dilation < self.pad + self.size


def axes(graph: Graph, node: Node) -> tuple[Axis, Axis]:
    """Rows and columns of a convolution or a pool."""
    (_, *size), (_, *out) = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    a = node.attrs
    kernel = node.weights["weight"].shape[2:] if node.op is Op.CONV2D else (a["kernel_h"], a["kernel_w"])
    rows, columns = (
        Axis(size[i], out[i], kernel[i], a[f"stride_{x}"], a[f"pad_{x}"], a.get(f"dilation_{x}", 1))
        for i, x in enumerate("hw")
    )
    return rows, columns


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a convolution's kernel goes channel by channel."""
    return node.attrs["groups"] == graph.shapes[node.inputs[0]][0] == graph.shapes[node.output][0]


def work(graph: Graph, node: Node) -> Mapping[str, float]:
    """Counts of one call of a float32 kernel; those that are 0 may be absent."""
    n = math.prod(graph.shapes[node.output])
    match node.op:
        case Op.CONV2D:
            if is_depthwise(graph, node):
                return _depthwise(graph, node)
            return _conv2d(*axes(graph, node), node.attrs["groups"], *node.weights["weight"].shape[:2])
        case Op.LINEAR:
            return _linear(*node.weights["weight"].shape)
        case Op.MAX_POOL2D:
            return _pool("max_pool", graph, node)
        case Op.AVG_POOL2D:
            return _pool("avg_pool", graph, node)
        case Op.ADAPTIVE_AVG_POOL2D:
            return _adaptive(graph, node)
        case Op.CONCAT | Op.FLATTEN:
            return {"copied.bytes": 4 * n}
        case Op.BATCH_NORM:
            return {"batch_norm.outputs": n, "batch_norm.channels": len(node.weights["scale"])}
    return {f"{node.op}.outputs": n}


@functools.lru_cache(maxsize=1024)
def _conv2d(rows: Axis, columns: Axis, groups: int, out_channels: int, group_in: int) -> Mapping[str, float]:
    blocks = -(-(out_channels // groups) // LANES)
    pixels = rows.out * columns.out
    width = -(-min(_CHUNK_PIXELS, pixels) // 4) * 4
    window, in_rows, in_columns = rows.kernel * columns.kernel, len(rows.positions()), len(columns.positions())
    taps = group_in * in_rows * in_columns
    pass_taps = min(group_in * window, _PANEL_FLOATS // width)
    passes = max(-(-taps // pass_taps), 1)
    whole = in_rows * in_columns == window
    runs = passes if whole else group_in * (1 if in_columns == columns.kernel else in_rows)
    length = taps % pass_taps if whole else in_columns
    rest = length % _UNROLLED + (passes - 1) * (pass_taps % _UNROLLED) if whole else runs * (length % _UNROLLED)
    padded = bool(rows.pad or columns.pad)
    found = dict.fromkeys(COUNTS[:13], 0.0)
    for first in range(0, pixels, _CHUNK_PIXELS):
        n = min(_CHUNK_PIXELS, pixels - first)
        parts = _parts(first, n, columns)
        tiles = -(-n // _TILE_PIXELS) * -(-blocks // 2)
        found["conv2d.fma"] += taps * n * blocks * 2
        found["conv2d.taps"] += taps * tiles
        found["conv2d.tiles"] += passes * tiles
        found["conv2d.sums"] += passes * n * blocks * 2
        found["conv2d.packs"] += taps
        found["conv2d.runs"] += runs * tiles
        found["conv2d.rest"] += rest * tiles
        found["conv2d.listed"] += 0 if whole else taps
        if len(parts) == n:
            found["conv2d.gathered"] += taps * n
        else:
            found["conv2d.copied" if padded else "conv2d.bare"] += taps * sum(_moves(part, padded) for part in parts)
        if padded:
            here = rows.span_of((first + n - 1) // columns.out - first // columns.out + 1)
            found["conv2d.band_rows"] += (group_in + passes - 1) * here
            found["conv2d.band"] += (group_in + passes - 1) * here * columns.spanned
    return {name: groups * count for name, count in found.items()}


def _parts(first: int, n: int, columns: Axis) -> list[int]:
    """Output pixels of each stretch of a chunk whose inputs lie side by side."""
    most = columns.out if columns.stride == 1 and columns.out >= _LONG_ROW else 1
    parts = []
    column = first % columns.out
    while n:
        part = min(most, columns.out - column, n)
        parts.append(part)
        n -= part
        column = (column + part) % columns.out
    return parts


def _moves(n: int, padded: bool) -> int:
    """Copies of constant size that a stretch of ``n`` floats takes; with padding there is room to copy too much."""
    return -(-n // _STEP) if padded else n // LANES + (n % LANES).bit_count() + 1


def _depthwise(graph: Graph, node: Node) -> Mapping[str, float]:
    rows, columns = axes(graph, node)
    channels, window = len(node.weights["weight"]), rows.kernel * columns.kernel
    groups_a_row = -(-columns.out // _ROW_PIXELS)
    phase = -(-columns.spanned // columns.stride) + LANES
    return {
        "depthwise.fma": channels * rows.out * window * -(-columns.out // LANES) * 2,
        "depthwise.taps": channels * rows.out * window * groups_a_row,
        "depthwise.rows": channels * rows.out * groups_a_row,
        "depthwise.single": channels * rows.out * (columns.out % LANES),
        "depthwise.copied": channels * min(rows.size, rows.spanned) * min(columns.size, columns.spanned),
        "depthwise.cleared": channels * rows.spanned * phase * columns.stride,
    }


def _linear(outputs: int, inputs: int) -> Mapping[str, float]:
    blocks = -(-outputs // LANES)
    fours, rest = divmod(blocks, 4)
    calls = fours + (0, 1, 1, 2)[rest]
    return {
        "linear.macs": blocks * LANES * inputs,
        "linear.steps": calls * inputs,
        "linear.outputs": blocks * LANES,
    }


def _pool(name: str, graph: Graph, node: Node) -> Mapping[str, float]:
    rows, columns = axes(graph, node)
    channels = graph.shapes[node.output][0]
    outputs = channels * rows.out * columns.out
    twos = all((a.kernel, a.stride, a.pad, a.dilation) == (2, 2, 0, 1) for a in (rows, columns))
    if name == "max_pool" and twos and rows.out <= rows.size // 2 and columns.out <= columns.size // 2:
        return {"max_pool_2x2.outputs": outputs, "max_pool_2x2.rows": channels * rows.out}
    return {
        f"{name}.outputs": outputs,
        f"{name}.rows": channels * rows.all_taps() * columns.out,
        f"{name}.taps": channels * rows.all_taps() * columns.all_taps(),
    }


def _adaptive(graph: Graph, node: Node) -> Mapping[str, float]:
    (_, height, width), (channels, out_h, out_w) = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    tall, wide = _spans(height, out_h), _spans(width, out_w)
    return {
        "avg_pool.outputs": channels * out_h * out_w,
        "avg_pool.rows": channels * tall * out_w,
        "avg_pool.taps": channels * tall * wide,
    }


def _spans(size: int, out: int) -> int:
    """Inputs of all outputs of an adaptive pool along one axis."""
    return sum(-(-(o + 1) * size // out) - o * size // out for o in range(out))
