"""What a graph means: the same computation by PyTorch's functional operators, for parity tests.

int8 operators are in ``reference_i8``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows it by)
from numpy.typing import NDArray
from torch import Tensor

from suite.graph import reference_i8
from suite.graph.ir import Graph, GraphError, Node, Op, bits_float
from suite.graph.partition import Segment

Array = NDArray[Any]


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run ``graph`` on a batch: arrays [N, *shape] by input name, and the same by output name.

    Tensors with a scale are int8, all others float32.

    Raises:
        GraphError: an input is missing or has another shape than the graph says.
    """
    held: dict[str, Tensor] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise GraphError(f"input {name!r} is missing; the graph takes {', '.join(graph.inputs)}")
        array = inputs[name]
        if array.shape[1:] != graph.shapes[name]:
            raise GraphError(f"input {name!r} is {array.shape[1:]} an image, the graph wants {graph.shapes[name]}")
        dtype = torch.int8 if name in graph.scales else torch.float32
        held[name] = torch.tensor(array, dtype=dtype)  # a copy: the array may be read-only
    with torch.no_grad():
        for node in graph.nodes:
            given = [held[name] for name in node.inputs]
            quantized = any(name in graph.scales for name in (*node.inputs, node.output))
            out = reference_i8.apply(graph, node, given) if quantized else apply(node, given)
            if tuple(out.shape[1:]) != graph.shapes[node.output]:
                raise GraphError(
                    f"node {node.name!r} ({node.op}) made {tuple(out.shape[1:])}, the graph says "
                    f"{graph.shapes[node.output]}"
                )
            held[node.output] = out
    return {name: held[name].numpy() for name in graph.outputs}


def run_segments(segments: Sequence[Segment], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run segment by segment on arrays [N, *shape]; returns every tensor that a segment took or made.

    The keys are tensor names; those that only live inside a segment are not among them.
    """
    held = dict(inputs)
    for segment in segments:
        held |= run_graph(segment.graph, {name: held[name] for name in segment.graph.inputs})
    return held


def apply(node: Node, inputs: list[Tensor]) -> Tensor:
    """One node on a batch; float32 [N, *shape] each."""
    weights = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in node.weights.items()}
    return apply_with(node, inputs, weights)


def apply_with(node: Node, inputs: list[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """The same with other weights than the node's own, shaped alike; autograd sees through it."""
    return _APPLY[node.op](inputs, node.attrs, weights)


_Rule = Callable[[list[Tensor], Mapping[str, int], Mapping[str, Tensor]], Tensor]


def _conv2d(x: list[Tensor], a: Mapping[str, int], w: Mapping[str, Tensor]) -> Tensor:
    return F.conv2d(
        x[0],
        w["weight"],
        w["bias"],
        (a["stride_h"], a["stride_w"]),
        (a["pad_h"], a["pad_w"]),
        (a["dilation_h"], a["dilation_w"]),
        a["groups"],
    )


def _batch_norm(x: list[Tensor], a: Mapping[str, int], w: Mapping[str, Tensor]) -> Tensor:
    shape = (1, -1) + (1,) * (x[0].dim() - 2)
    return x[0] * w["scale"].reshape(shape) + w["shift"].reshape(shape)


def _max_pool2d(x: list[Tensor], a: Mapping[str, int], w: Mapping[str, Tensor]) -> Tensor:
    return F.max_pool2d(
        x[0],
        (a["kernel_h"], a["kernel_w"]),
        (a["stride_h"], a["stride_w"]),
        (a["pad_h"], a["pad_w"]),
        (a["dilation_h"], a["dilation_w"]),
        bool(a["ceil"]),
    )


def _avg_pool2d(x: list[Tensor], a: Mapping[str, int], w: Mapping[str, Tensor]) -> Tensor:
    return F.avg_pool2d(
        x[0],
        (a["kernel_h"], a["kernel_w"]),
        (a["stride_h"], a["stride_w"]),
        (a["pad_h"], a["pad_w"]),
        bool(a["ceil"]),
        bool(a["count_include_pad"]),
    )


_APPLY: Mapping[Op, _Rule] = {
    Op.CONV2D: _conv2d,
    Op.LINEAR: lambda x, a, w: F.linear(x[0], w["weight"], w["bias"]),
    Op.BATCH_NORM: _batch_norm,
    Op.RELU: lambda x, a, w: F.relu(x[0]),
    Op.RELU6: lambda x, a, w: F.relu6(x[0]),
    Op.MAX_POOL2D: _max_pool2d,
    Op.AVG_POOL2D: _avg_pool2d,
    Op.ADAPTIVE_AVG_POOL2D: lambda x, a, w: F.adaptive_avg_pool2d(x[0], (a["out_h"], a["out_w"])),
    Op.ADD: lambda x, a, w: x[0] + x[1],
    Op.CONCAT: lambda x, a, w: torch.cat(x, dim=1),
    Op.FLATTEN: lambda x, a, w: torch.flatten(x[0], 1),
    Op.SOFTMAX: lambda x, a, w: torch.softmax(x[0], dim=-1),
    Op.LEAKY_RELU: lambda x, a, w: F.leaky_relu(x[0], bits_float(a["slope_bits"])),
}
