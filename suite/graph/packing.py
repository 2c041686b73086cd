"""Weights as the kernels read them: several output channels side by side (``enum lb_layout`` of lb_model.h)."""

from __future__ import annotations

import math

import numpy as np

from suite.graph.ir import Graph, Node, Op, Weights
from suite.graph.wire import I8_LANES, I8_STEP, LANES, NUMPY_DTYPES, DType, Layout

_DTYPES = {dtype: number for number, dtype in NUMPY_DTYPES.items()}


def dtype_of(weight: Weights) -> DType:
    """The format's name of an array's element type."""
    return _DTYPES[weight.dtype.newbyteorder("<")]


def layout_of(graph: Graph, node: Node, key: str) -> Layout:
    """The layout in which weight ``key`` of ``node`` is stored.

    Matrices of linear layers and filters are packed, except depth-wise ones (groups = channels in = channels
    out), whose kernel works channel by channel.
    """
    if key != "weight":
        return Layout.PLAIN
    packed = Layout.DOT4 if node.is_quantized else Layout.PACKED8
    if node.op is Op.LINEAR:
        return packed
    channels_in = graph.shapes[node.inputs[0]][0]
    channels_out = graph.shapes[node.output][0]
    if not node.attrs["groups"] == channels_in == channels_out:
        return packed
    return Layout.CHANNELS_LAST if node.is_quantized else Layout.PLAIN


def stored_floats(shape: tuple[int, ...], layout: Layout, groups: int) -> int:
    """How many elements (floats, or bytes of int8) a weight of logical ``shape`` takes in ``layout``."""
    if layout in (Layout.PLAIN, Layout.CHANNELS_LAST):
        return math.prod(shape)
    lanes, step = (I8_LANES, I8_STEP) if layout is Layout.DOT4 else (LANES, 1)
    per_group = -(-(shape[0] // groups) // lanes) * lanes
    return groups * per_group * (-(-math.prod(shape[1:]) // step) * step)


def stored_bytes(weight: Weights, layout: Layout, groups: int) -> int:
    """How many bytes ``weight`` takes in ``layout``."""
    return weight.itemsize * stored_floats(weight.shape, layout, groups)


def pack(weight: Weights, layout: Layout, groups: int) -> Weights:
    """The elements of ``weight`` (O, ...) in the order of ``layout``, flat, zeros where there is nothing.

    PACKED8 is [groups][ceil(O/groups/8)][K][8]; DOT4 is [groups][ceil(O/groups/4)][ceil(K/16)][4][16], its K in the
    order (row, column, channel); CHANNELS_LAST is (row, column, O) of a filter (O, 1, rows, columns).
    """
    flat = np.ascontiguousarray(weight, NUMPY_DTYPES[dtype_of(weight)])
    if layout is Layout.PLAIN:
        return flat.reshape(-1)
    if layout is Layout.CHANNELS_LAST:
        return np.ascontiguousarray(flat[:, 0].transpose(1, 2, 0)).reshape(-1)
    if layout is Layout.DOT4:
        return _pack_dot4(flat, groups)
    outs = weight.shape[0] // groups
    blocks = -(-outs // LANES)
    width = math.prod(weight.shape[1:])
    padded = np.zeros((groups, blocks * LANES, width), flat.dtype)
    padded[:, :outs] = flat.reshape(groups, outs, width)
    return np.ascontiguousarray(padded.reshape(groups, blocks, LANES, width).transpose(0, 1, 3, 2)).reshape(-1)


def _pack_dot4(weight: Weights, groups: int) -> Weights:
    outs, width = weight.shape[0] // groups, math.prod(weight.shape[1:])
    rows = np.moveaxis(weight, 1, -1).reshape(groups, outs, width)
    blocks, steps = -(-outs // I8_LANES), -(-width // I8_STEP)
    padded = np.zeros((groups, blocks * I8_LANES, steps * I8_STEP), weight.dtype)
    padded[:, :outs, :width] = rows
    tiles = padded.reshape(groups, blocks, I8_LANES, steps, I8_STEP).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(tiles).reshape(-1)


def unpack(flat: Weights, shape: tuple[int, ...], layout: Layout, groups: int) -> Weights:
    """The inverse of :func:`pack`: an array of logical ``shape``."""
    if layout is Layout.PLAIN:
        return flat.reshape(shape).copy()
    if layout is Layout.CHANNELS_LAST:
        return np.ascontiguousarray(flat.reshape(*shape[2:], shape[0]).transpose(2, 0, 1)).reshape(shape).copy()
    outs = shape[0] // groups
    width = math.prod(shape[1:])
    if layout is Layout.DOT4:
        blocks, steps = -(-outs // I8_LANES), -(-width // I8_STEP)
        tiles = flat.reshape(groups, blocks, steps, I8_LANES, I8_STEP).transpose(0, 1, 3, 2, 4)
        rows = tiles.reshape(groups, blocks * I8_LANES, steps * I8_STEP)[:, :outs, :width]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1))
    blocks = -(-outs // LANES)
    lanes = flat.reshape(groups, blocks, width, LANES).transpose(0, 1, 3, 2)
    return lanes.reshape(groups, blocks * LANES, width)[:, :outs].reshape(shape).copy()
