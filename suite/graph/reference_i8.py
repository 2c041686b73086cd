"""What int8 operators compute, bit for bit: exact sums, then the float32 operations of ta/kernels (lb_kernels_i8.h).

Sums are made in float64, in which every integer below 2^53 is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows it by)
from torch import Tensor

from suite.graph.ir import Graph, GraphError, Node, Op

LOWEST, HIGHEST = -128, 127


def apply(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    """One node on a batch [N, *shape]: int8 where ``graph`` gives a tensor a scale, else float32.

    Raises:
        GraphError: boards have no such operator on int8.
    """
    rule = _RULES.get(node.op)
    if rule is None:
        raise GraphError(f"node {node.name!r}: boards have no {node.op} on int8; dequantize before it")
    return rule(graph, node, inputs)


def _ratio(graph: Graph, tensor: str, output: str) -> int:
    """Scale of an input over that of the output, in steps of 2^-16, as the kernels round it."""
    ratio = np.float32(graph.scales[tensor]) / np.float32(graph.scales[output])
    return int(np.float32(ratio * np.float32(65536.0)) + np.float32(0.5))


def _narrow(x: Tensor) -> Tensor:
    return x.clamp(LOWEST, HIGHEST).to(torch.int8)


def _requantized(sums: Tensor, multiplier: Tensor) -> Tensor:
    """``sums``: float64, whole numbers below 2^31; one rounding to float32, one multiplication, half to even."""
    return _narrow(torch.round(sums.to(torch.float32) * multiplier))


def _layer(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    x = inputs[0].double()
    weight = torch.from_numpy(node.weights["weight"].astype(np.float64))
    bias = torch.from_numpy(node.weights["bias"].astype(np.float64))
    multiplier = torch.from_numpy(np.ascontiguousarray(node.weights["multiplier"]))
    if node.op is Op.LINEAR:
        sums = F.linear(x, weight, bias)
        if node.output not in graph.scales:
            return sums.to(torch.float32) * multiplier
        return _requantized(sums, multiplier)
    a = node.attrs
    pad, dilation = (a["pad_h"], a["pad_w"]), (a["dilation_h"], a["dilation_w"])
    sums = F.conv2d(x, weight, bias, (a["stride_h"], a["stride_w"]), pad, dilation, a["groups"])
    return _requantized(sums, multiplier.reshape(-1, 1, 1))


def _quantize(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    inverse = np.float32(1.0) / np.float32(graph.scales[node.output])
    return _narrow(torch.round((inputs[0] * float(inverse)).nan_to_num(nan=LOWEST)))


def _dequantize(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].to(torch.float32) * float(np.float32(graph.scales[node.inputs[0]]))


def _relu(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].clamp(min=0)


def _relu6(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    six = np.rint(np.float32(6.0) / np.float32(graph.scales[node.output]))
    return inputs[0].clamp(0, int(min(six, HIGHEST)))


def _max_pool2d(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    a = node.attrs
    kernel, stride = (a["kernel_h"], a["kernel_w"]), (a["stride_h"], a["stride_w"])
    dilation = (a["dilation_h"], a["dilation_w"])
    x = inputs[0].to(torch.float32)
    return _narrow(F.max_pool2d(x, kernel, stride, (a["pad_h"], a["pad_w"]), dilation, bool(a["ceil"])))


def _avg_pool2d(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    a = node.attrs
    kernel, stride, pad = (a["kernel_h"], a["kernel_w"]), (a["stride_h"], a["stride_w"]), (a["pad_h"], a["pad_w"])
    x = inputs[0].double()

    def mean(values: Tensor, *, include_pad: bool) -> Tensor:
        return F.avg_pool2d(values, kernel, stride, pad, bool(a["ceil"]), include_pad)

    # PyTorch gives means; the divisors are what a map of ones has in its windows, and from them come the exact sums.
    area = kernel[0] * kernel[1]
    ones = torch.ones_like(x[:1, :1])
    met = torch.round(F.avg_pool2d(ones, kernel, stride, pad, bool(a["ceil"]), True, divisor_override=area) * area)
    sums = torch.round(F.avg_pool2d(x, kernel, stride, pad, bool(a["ceil"]), True, divisor_override=area) * area)
    divisor = met
    if a["count_include_pad"]:
        divisor = torch.round(met / mean(ones, include_pad=True).clamp(min=1e-9))
    multiplier = (1.0 / divisor.clamp(min=1).to(torch.float32)).to(torch.float32)
    return _requantized(sums, multiplier)


def _adaptive_avg_pool2d(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    size = (node.attrs["out_h"], node.attrs["out_w"])
    x = inputs[0].double()
    in_h, in_w = x.shape[2:]
    out = torch.empty(*x.shape[:2], *size, dtype=torch.int8)
    for row in range(size[0]):
        top, bottom = row * in_h // size[0], -(-(row + 1) * in_h // size[0])
        for column in range(size[1]):
            left, right = column * in_w // size[1], -(-(column + 1) * in_w // size[1])
            part = x[:, :, top:bottom, left:right].sum((2, 3))
            count = torch.tensor((bottom - top) * (right - left), dtype=torch.float32)
            out[:, :, row, column] = _requantized(part, 1.0 / count)
    return out


def _sum(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    total = sum(
        x.long() * _ratio(graph, name, node.output) for x, name in zip(inputs, node.inputs, strict=True)
    ) + torch.tensor(1 << 15)
    return _narrow(total >> 16)


def _concat(graph: Graph, node: Node, inputs: list[Tensor]) -> Tensor:
    parts = zip(inputs, node.inputs, strict=True)
    return torch.cat([_narrow((x.long() * _ratio(graph, n, node.output) + (1 << 15)) >> 16) for x, n in parts], dim=1)


_Rule = Callable[[Graph, Node, list[Tensor]], Tensor]

_RULES: Mapping[Op, _Rule] = {
    Op.CONV2D: _layer,
    Op.LINEAR: _layer,
    Op.QUANTIZE: _quantize,
    Op.DEQUANTIZE: _dequantize,
    Op.RELU: _relu,
    Op.RELU6: _relu6,
    Op.MAX_POOL2D: _max_pool2d,
    Op.AVG_POOL2D: _avg_pool2d,
    Op.ADAPTIVE_AVG_POOL2D: _adaptive_avg_pool2d,
    Op.ADD: _sum,
    Op.CONCAT: _concat,
    Op.FLATTEN: lambda graph, node, inputs: torch.flatten(inputs[0], 1),
}

OPERATORS = frozenset(_RULES)
"""The operators that boards have on int8."""
