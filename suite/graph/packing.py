"""Weights as the kernels read them: eight output channels side by side (LB_LAYOUT_PACKED8)."""

from __future__ import annotations

import math

import numpy as np

from suite.graph.ir import Graph, Node, Op, Weights
from suite.graph.wire import LANES, Layout


def layout_of(graph: Graph, node: Node, key: str) -> Layout:
    """The layout in which weight ``key`` of ``node`` is stored.

    Matrices of linear layers and filters are packed, except depth-wise ones (groups = channels in = channels
    out), whose kernel works channel by channel.
    """
    if key != "weight":
        return Layout.PLAIN
    if node.op is Op.LINEAR:
        return Layout.PACKED8
    channels_in = graph.shapes[node.inputs[0]][0]
    channels_out = graph.shapes[node.output][0]
    depthwise = node.attrs["groups"] == channels_in == channels_out
    return Layout.PLAIN if depthwise else Layout.PACKED8


def stored_floats(shape: tuple[int, ...], layout: Layout, groups: int) -> int:
    """How many floats a weight of logical ``shape`` takes in ``layout``."""
    if layout is Layout.PLAIN:
        return math.prod(shape)
    per_group = -(-(shape[0] // groups) // LANES) * LANES
    return groups * per_group * math.prod(shape[1:])


def pack(weight: Weights, layout: Layout, groups: int) -> Weights:
    """Flat floats of ``weight`` (O, ...) in ``layout``: PACKED8 is [groups][ceil(O/groups/8)][K][8]."""
    flat = np.ascontiguousarray(weight, dtype="<f4")
    if layout is Layout.PLAIN:
        return flat.reshape(-1)
    outs = weight.shape[0] // groups
    blocks = -(-outs // LANES)
    width = math.prod(weight.shape[1:])
    padded = np.zeros((groups, blocks * LANES, width), dtype="<f4")
    padded[:, :outs] = flat.reshape(groups, outs, width)
    return np.ascontiguousarray(padded.reshape(groups, blocks, LANES, width).transpose(0, 1, 3, 2)).reshape(-1)


def unpack(flat: Weights, shape: tuple[int, ...], layout: Layout, groups: int) -> Weights:
    """The inverse of :func:`pack`: an array of logical ``shape``."""
    if layout is Layout.PLAIN:
        return flat.reshape(shape).copy()
    outs = shape[0] // groups
    blocks = -(-outs // LANES)
    width = math.prod(shape[1:])
    lanes = flat.reshape(groups, blocks, width, LANES).transpose(0, 1, 3, 2)
    return lanes.reshape(groups, blocks * LANES, width)[:, :outs].reshape(shape).copy()
