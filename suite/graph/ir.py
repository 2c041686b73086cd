"""The operator graph: what a model is once PyTorch is left behind.

Tensors carry no batch dimension: a board runs one image at a time. Activations are ``(C, H, W)`` or ``(F,)``,
float32, or int8 where the graph gives them a scale.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[Any]
"""float32, except in int8 operators (``QUANTIZED_WEIGHTS``)."""


class GraphError(ValueError):
    """A graph that contradicts itself, or an operator that cannot be expressed; names the node."""


class Op(StrEnum):
    """The operators a board knows. Attributes and weights of each are listed in ``ATTRS`` and ``WEIGHTS``."""

    CONV2D = "conv2d"
    LINEAR = "linear"
    BATCH_NORM = "batch_norm"  # inference form, y = scale * x + shift per channel; folded where a conv precedes it
    RELU = "relu"
    RELU6 = "relu6"
    MAX_POOL2D = "max_pool2d"
    AVG_POOL2D = "avg_pool2d"
    ADAPTIVE_AVG_POOL2D = "adaptive_avg_pool2d"
    ADD = "add"
    CONCAT = "concat"  # along channels (axis 0 without the batch)
    FLATTEN = "flatten"
    SOFTMAX = "softmax"  # over the whole of a (F,) tensor
    LEAKY_RELU = "leaky_relu"
    QUANTIZE = "quantize"  # float32 to int8, with the scale of its output
    DEQUANTIZE = "dequantize"  # int8 to float32


ATTRS: Mapping[Op, tuple[str, ...]] = {
    Op.CONV2D: ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "groups"),
    Op.MAX_POOL2D: (
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "pad_h",
        "pad_w",
        "dilation_h",
        "dilation_w",
        "ceil",
    ),
    Op.AVG_POOL2D: (
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "pad_h",
        "pad_w",
        "ceil",
        "count_include_pad",
    ),
    Op.ADAPTIVE_AVG_POOL2D: ("out_h", "out_w"),
    Op.LEAKY_RELU: ("slope_bits",),  # float_bits() of a slope from 0 to 1
}
"""Integer attributes of each operator, in the order the binary format stores them."""


def float_bits(value: float) -> int:
    """``value`` as an attribute: the bits of the float32 nearest to it."""
    return int(np.float32(value).view(np.uint32))


def bits_float(bits: int) -> float:
    """The inverse of :func:`float_bits`."""
    return float(np.uint32(bits).view(np.float32))


WEIGHTS: Mapping[Op, tuple[str, ...]] = {
    Op.CONV2D: ("weight", "bias"),  # weight (O, I/groups, KH, KW); bias (O,), always present (zeros)
    Op.LINEAR: ("weight", "bias"),  # weight (O, I); bias (O,), always present (zeros)
    Op.BATCH_NORM: ("scale", "shift"),  # (C,) each
}
"""Weight arrays of each operator; operators not named have none."""

QUANTIZED_WEIGHTS = ("weight", "bias", "multiplier")
"""Of a convolution or linear layer on int8: weight int8 from -127 to 127; bias int32 (O,), in steps of input scale *
channel's weight scale; multiplier float32 (O,), that step over the output's scale (over 1 where it is float32)."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator application.

    ``name`` is unique in the graph. ``layer`` is the dotted path of the PyTorch module it came from
    (``"features.0"``), used in messages and tables; several nodes may share one. ``slices``: the filter does not stay
    in the secure world but comes in slices of that many output channels, each but the last a multiple of 4; int8 only.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    layer: str
    attrs: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Weights] = field(default_factory=dict)
    slices: tuple[int, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether it is a convolution or linear layer with int8 weights."""
        return "multiplier" in self.weights

    @property
    def weight_keys(self) -> tuple[str, ...]:
        """Its weight arrays in the order in which the binary format names them."""
        return QUANTIZED_WEIGHTS if self.is_quantized else WEIGHTS.get(self.op, ())

    @property
    def has_parameters(self) -> bool:
        """Whether the node carries learned weights (what DarkneTZ counts as a layer with parameters)."""
        return bool(self.weights)


@dataclass(frozen=True, slots=True)
class Graph:
    """A topologically ordered list of nodes with named input and output tensors.

    ``shapes`` gives the shape, without batch, of every tensor that is an input or a node's output. A tensor in
    ``scales`` is int8 and stands for q * scale; the scale is a float32 above 0. All others are float32.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...]]
    scales: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise GraphError(f"node {node.name!r} ({node.op}) reads {name!r}, which nothing before it makes")
            if node.output in known:
                raise GraphError(f"node {node.name!r} ({node.op}) makes {node.output!r} a second time")
            known.add(node.output)
        for name in self.outputs:
            if name not in known:
                raise GraphError(f"the graph's output {name!r} is made by no node")
        for name in known:
            if name not in self.shapes:
                raise GraphError(f"tensor {name!r} has no shape")

    def bytes_of(self, tensor: str) -> int:
        """Size of one tensor in bytes: four an element, or one where it is int8."""
        return (1 if tensor in self.scales else 4) * math.prod(self.shapes[tensor])

    def parameter_nodes(self) -> tuple[Node, ...]:
        """The nodes with learned weights, first to last."""
        return tuple(node for node in self.nodes if node.has_parameters)

    def fingerprint(self) -> str:
        """SHA-256 over structure and weights, hex."""
        digest = hashlib.sha256()
        digest.update(repr((self.inputs, self.outputs, sorted(self.shapes.items()))).encode())
        digest.update(repr(sorted(self.scales.items())).encode())
        for node in self.nodes:
            attrs = sorted(node.attrs.items())
            digest.update(repr((node.name, node.op, node.inputs, node.output, attrs, node.slices)).encode())
            for key in sorted(node.weights):
                array = np.ascontiguousarray(node.weights[key])
                digest.update(f"{key}{array.shape}{array.dtype}".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()


def subgraph(graph: Graph, nodes: Iterable[Node], also_outputs: Iterable[str] = ()) -> Graph:
    """Cut ``nodes`` (in graph order) out of ``graph`` as a graph of its own.

    Inputs are the tensors that the nodes read and do not make; outputs are those that anything outside reads,
    the graph's own outputs among them, and ``also_outputs``. Order of both follows the graph.
    """
    chosen = tuple(nodes)
    names = {node.name for node in chosen}
    made = {node.output for node in chosen}
    read = {tensor for node in chosen for tensor in node.inputs}
    wanted = set(also_outputs) | set(graph.outputs)
    for node in graph.nodes:
        if node.name not in names:
            wanted.update(node.inputs)
    order = [*graph.inputs, *(node.output for node in graph.nodes)]
    inputs = tuple(t for t in order if t in read and t not in made)
    outputs = tuple(t for t in order if t in made and t in wanted)
    known = [t for t in order if t in made or t in inputs]
    scales = {t: graph.scales[t] for t in known if t in graph.scales}
    return Graph(inputs, outputs, chosen, {t: graph.shapes[t] for t in known}, scales)
