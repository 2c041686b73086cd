"""The operator graph: what a model is once PyTorch is left behind.

Tensors carry no batch dimension: a board runs one image at a time. Activations are ``(C, H, W)`` or ``(F,)``,
float32, row-major.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]


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
}
"""Integer attributes of each operator, in the order the binary format stores them."""

WEIGHTS: Mapping[Op, tuple[str, ...]] = {
    Op.CONV2D: ("weight", "bias"),  # weight (O, I/groups, KH, KW); bias (O,), always present (zeros)
    Op.LINEAR: ("weight", "bias"),  # weight (O, I); bias (O,), always present (zeros)
    Op.BATCH_NORM: ("scale", "shift"),  # (C,) each
}
"""Weight arrays of each operator; operators not named have none."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator application.

    ``name`` is unique in the graph. ``layer`` is the dotted path of the PyTorch module it came from
    (``"features.0"``), used in messages and tables; several nodes may share one.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    layer: str
    attrs: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, Weights] = field(default_factory=dict)

    @property
    def has_parameters(self) -> bool:
        """Whether the node carries learned weights (what DarkneTZ counts as a layer with parameters)."""
        return bool(self.weights)


@dataclass(frozen=True, slots=True)
class Graph:
    """A topologically ordered list of nodes with named input and output tensors.

    ``shapes`` gives the shape, without batch, of every tensor that is an input or a node's output.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...]]

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
        """Size of one tensor in bytes (float32)."""
        return 4 * math.prod(self.shapes[tensor])

    def parameter_nodes(self) -> tuple[Node, ...]:
        """The nodes with learned weights, first to last."""
        return tuple(node for node in self.nodes if node.has_parameters)

    def fingerprint(self) -> str:
        """SHA-256 over structure and weights, hex."""
        digest = hashlib.sha256()
        digest.update(repr((self.inputs, self.outputs, sorted(self.shapes.items()))).encode())
        for node in self.nodes:
            digest.update(repr((node.name, node.op, node.inputs, node.output, sorted(node.attrs.items()))).encode())
            for key in sorted(node.weights):
                array = np.ascontiguousarray(node.weights[key], dtype=np.float32)
                digest.update(f"{key}{array.shape}".encode())
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
    return Graph(inputs, outputs, chosen, {t: graph.shapes[t] for t in order if t in made or t in inputs})
