"""The micro-benchmarks of a calibration: small graphs of one operator, the same in both worlds.

Each is a deployment whose image goes through the operator in the normal world, and through it again in the secure
world; the last segment is a flattening where the answer is no vector yet. So one session times it in both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from suite.graph.ir import Graph, Node, Op
from suite.graph.partition import Segment, split
from suite.graph.quantize import calibrate, quantize
from suite.predicting import features

HIDDEN = "secure"
"""What the names of nodes in the TEE begin with."""
_ONES = ("stride_h", "stride_w", "dilation_h", "dilation_w")
_SEED = 0


@dataclass(frozen=True, slots=True)
class MicroBench:
    """``name`` says what it runs; ``group``: the operator, of which a calibration needs several shapes."""

    name: str
    group: str
    graph: Graph

    def segments(self) -> tuple[Segment, ...]:
        """The operator in the normal world, in the TEE, and the rest."""
        return split(self.graph, lambda node: node.name.startswith(HIDDEN))

    def key(self) -> str:
        """What is run, and on what."""
        return f"{self.name} {self.graph.fingerprint()[:16]}"

    def image(self) -> NDArray[np.float32]:
        """What it is run on, float32."""
        shape = self.graph.shapes[self.graph.inputs[0]]
        return np.random.default_rng(_SEED).standard_normal(shape).astype(np.float32)


@functools.cache
def plan(tiny: bool = False) -> tuple[MicroBench, ...]:
    """All micro-benchmarks; ``tiny``: as few as pay for every feature, to try a board out."""
    found = (*_convolutions(), *_depthwise(), *_linears(), *_simple(), *_pools(), *_crossings())
    whole = (*found, *(one for case in found for one in _quantized(case)), *_quantizations(), *_streamed())
    if not tiny:
        return whole
    seen: set[str] = set()
    chosen = []
    for case in whole:
        paid = {name for name, n in features(case.segments()).items() if n}
        if not paid <= seen:
            chosen.append(case)
            seen |= paid
    return tuple(chosen)


def _twice(
    group: str,
    op: Op,
    shape: tuple[int, ...],
    out: tuple[int, ...],
    attrs: Mapping[str, int] | None = None,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
    operands: int = 1,
) -> MicroBench:
    """``op`` on an image of ``shape`` in each world."""
    shapes: dict[str, tuple[int, ...]] = {"image": shape, "open": out, "hidden": out}
    given = dict(attrs or {}), dict(weights or {})
    inputs = ("image",) * operands
    nodes = [Node("plain", op, inputs, "open", group, *given), Node(HIDDEN, op, inputs, "hidden", group, *given)]
    shapes["answer"] = (int(np.prod(out)),)
    if len(out) > 1:
        nodes.append(Node("flat", Op.FLATTEN, ("hidden",), "answer", "flat"))
    else:
        nodes.append(Node("sum", Op.ADD, ("open", "hidden"), "answer", "sum"))
    size = "x".join(map(str, shape))
    kind = " ".join(f"{name}={value}" for name, value in given[0].items() if value != (name in _ONES))
    label = op if group == "relu" else group
    name = f"{label} {size} to {'x'.join(map(str, out))}{' ' if kind else ''}{kind}"
    return MicroBench(name, group, Graph(("image",), ("answer",), tuple(nodes), shapes))


def _floats(*shape: int) -> NDArray[np.float32]:
    return (np.random.default_rng(_SEED).standard_normal(shape) / 4).astype(np.float32)


def _conv(
    group: str, channels: tuple[int, int], size: int, kernel: int, stride: int = 1, pad: int = 0, groups: int = 1
) -> MicroBench:
    out = (size + 2 * pad - kernel) // stride + 1
    attrs = dict.fromkeys(_ONES, 1) | {"pad_h": pad, "pad_w": pad, "groups": groups}
    attrs |= {"stride_h": stride, "stride_w": stride}
    weights = {"weight": _floats(channels[1], channels[0] // groups, kernel, kernel), "bias": _floats(channels[1])}
    return _twice(group, Op.CONV2D, (channels[0], size, size), (channels[1], out, out), attrs, weights)


def _convolutions() -> Iterator[MicroBench]:
    """Wide and narrow, with padding and without, on maps of 1x1 to 32x32: one a way in which the kernel walks."""
    for channels, size, kernel, stride, pad in (
        ((3, 16), 32, 3, 1, 1), ((16, 16), 16, 3, 1, 1), ((16, 32), 16, 3, 2, 1), ((3, 64), 32, 11, 4, 5),
        ((32, 32), 8, 3, 1, 1), ((64, 64), 4, 3, 1, 1), ((96, 64), 4, 3, 1, 1), ((64, 64), 2, 3, 1, 1),
        ((128, 64), 2, 3, 1, 1), ((64, 64), 1, 3, 1, 1), ((128, 32), 1, 5, 1, 2), ((32, 64), 8, 1, 1, 0),
        ((64, 32), 4, 1, 1, 0), ((64, 64), 1, 1, 1, 0), ((16, 24), 12, 3, 1, 0), ((8, 8), 16, 5, 1, 2),
        ((32, 8), 7, 3, 1, 1), ((4, 40), 14, 3, 1, 1), ((24, 16), 10, 1, 2, 0), ((16, 48), 9, 3, 2, 1),
        ((96, 96), 3, 3, 1, 1), ((16, 64), 4, 5, 1, 2), ((12, 20), 6, 3, 1, 1), ((40, 40), 5, 3, 1, 1),
        ((3, 32), 28, 5, 2, 2), ((20, 16), 16, 1, 1, 0),
        ((16, 10), 8, 3, 1, 1), ((10, 9), 12, 3, 1, 1),
    ):  # fmt: skip
        yield _conv("conv2d", channels, size, kernel, stride, pad)
    yield _conv("conv2d", (32, 32), 8, 3, 1, 1, groups=4)
    yield _conv("conv2d", (32, 32), 8, 1, 1, 0, groups=2)


def _depthwise() -> Iterator[MicroBench]:
    for channels, size, kernel, stride in (
        (32, 16, 3, 1), (32, 16, 3, 2), (64, 8, 3, 1), (16, 32, 3, 1), (64, 4, 3, 1), (16, 14, 5, 1), (96, 7, 3, 2),
        (8, 40, 3, 1), (24, 10, 5, 2),
    ):  # fmt: skip
        yield _conv("depthwise", (channels, channels), size, kernel, stride, kernel // 2, groups=channels)


def _linears() -> Iterator[MicroBench]:
    for inputs, outputs in ((64, 10), (256, 100), (512, 64), (1024, 32), (256, 256), (100, 24), (32, 8), (2048, 10)):
        weights = {"weight": _floats(outputs, inputs), "bias": _floats(outputs)}
        yield _twice("linear", Op.LINEAR, (inputs,), (outputs,), {}, weights)


def _simple() -> Iterator[MicroBench]:
    for channels, size in ((16, 8), (32, 16), (64, 4)):
        shape = (channels, size, size)
        for op in (Op.RELU, Op.RELU6):
            yield _twice("relu", op, shape, shape)
        yield _twice("leaky_relu", Op.LEAKY_RELU, shape, shape, {"slope_bits": int(np.float32(0.1).view(np.uint32))})
        yield _twice("add", Op.ADD, shape, shape, operands=2)
        yield _twice("concat", Op.CONCAT, shape, (2 * channels, size, size), operands=2)
        yield _twice("flatten", Op.FLATTEN, shape, (channels * size * size,))
        weights = {"scale": _floats(channels), "shift": _floats(channels)}
        yield _twice("batch_norm", Op.BATCH_NORM, shape, shape, {}, weights)
    for classes in (10, 100, 1000):
        yield _twice("softmax", Op.SOFTMAX, (classes,), (classes,))


def _pools() -> Iterator[MicroBench]:
    for channels, size, kernel, stride, pad in (
        (16, 16, 2, 2, 0), (64, 8, 2, 2, 0), (8, 32, 2, 2, 0), (64, 2, 2, 2, 0), (16, 15, 3, 2, 0), (32, 8, 3, 2, 1),
        (32, 6, 3, 1, 1), (16, 12, 5, 2, 2), (48, 4, 2, 1, 0),
    ):  # fmt: skip
        for op, group in ((Op.MAX_POOL2D, "max_pool"), (Op.AVG_POOL2D, "avg_pool")):
            out = (size + 2 * pad - kernel) // stride + 1
            attrs = {"kernel_h": kernel, "kernel_w": kernel, "stride_h": stride, "stride_w": stride}
            attrs |= {"pad_h": pad, "pad_w": pad}
            attrs |= {"dilation_h": 1, "dilation_w": 1, "ceil": 0} if op is Op.MAX_POOL2D else {}
            attrs |= {"ceil": 0, "count_include_pad": 1} if op is Op.AVG_POOL2D else {}
            yield _twice(group, op, (channels, size, size), (channels, out, out), attrs)
    for channels, size, out in ((64, 8, 1), (128, 4, 1), (64, 2, 1), (32, 7, 3), (16, 12, 6)):
        attrs = {"out_h": out, "out_w": out}
        yield _twice("avg_pool", Op.ADAPTIVE_AVG_POOL2D, (channels, size, size), (channels, out, out), attrs)


def _crossings() -> Iterator[MicroBench]:
    """Next to nothing to do: more and more to carry there and back, more calls of kernels, more switches; and none."""
    for n in (16, 4096, 16384, 65536):
        yield _chain(f"crossing of {4 * n} bytes", n, "-+")
    for worlds in ("-", "----", "------------", "++++", "++++++++++++", "-+-+-+-+", "-++++----++++"):
        yield _chain(f"chain of {worlds}", 16, worlds)


def _chain(name: str, n: int, worlds: str) -> MicroBench:
    """Kernels on ``n`` numbers, one after the other; ``+`` is one in the TEE."""
    tensors = ["image", *(f"t{i}" for i in range(len(worlds)))]
    nodes = tuple(
        Node(f"{HIDDEN if world == '+' else 'plain'}{i}", Op.RELU, (tensors[i],), tensors[i + 1], "relu")
        for i, world in enumerate(worlds)
    )
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(tensors, (n,))
    return MicroBench(name, "chain", Graph(("image",), (tensors[-1],), nodes, shapes))


def _quantizations() -> Iterator[MicroBench]:
    """To int8 and back inside the TEE."""
    for channels, size in ((16, 8), (32, 16), (256, 2), (3, 32)):
        shape, n = (channels, size, size), channels * size * size
        shapes: dict[str, tuple[int, ...]] = {"image": shape, "small": shape, "wide": shape, "answer": (n,)}
        nodes = (
            Node(f"{HIDDEN}_to", Op.QUANTIZE, ("image",), "small", "to"),
            Node(f"{HIDDEN}_from", Op.DEQUANTIZE, ("small",), "wide", "from"),
            Node(f"{HIDDEN}_flat", Op.FLATTEN, ("wide",), "answer", "flat"),
        )
        graph = Graph(("image",), ("answer",), nodes, shapes, {"small": 0.125})
        yield MicroBench(f"int8 quantize {channels}x{size}x{size}", "int8 quantize", graph)


def _streamed() -> Iterator[MicroBench]:
    """Filters on int8 that come into the TEE in slices: few and many, small and large, alone in a call and together."""
    for case, channels in (
        (_conv("streamed", (64, 64), 8, 3, 1, 1), 64), (_conv("streamed", (64, 64), 8, 3, 1, 1), 16),
        (_conv("streamed", (64, 64), 8, 3, 1, 1), 4), (_conv("streamed", (96, 128), 4, 3, 1, 1), 32),
        (_conv("streamed", (16, 64), 16, 1), 4), (_conv("streamed", (256, 256), 2, 3, 1, 1), 64),
        (_conv("streamed", (256, 256), 2, 3, 1, 1), 128), (_conv("streamed", (32, 48), 12, 1), 8),
        (_conv("streamed", (128, 128), 4, 3, 1, 1), 8),
    ):  # fmt: skip
        graph = quantize(case.graph, calibrate(case.graph, case.image()[None], 100.0))
        nodes = tuple(
            replace(node, slices=_slices(len(node.weights["bias"]), channels))
            if node.name == HIDDEN and node.op is Op.CONV2D
            else node
            for node in graph.nodes
        )
        yield MicroBench(f"{case.name}, streamed by {channels}", case.group, replace(graph, nodes=nodes))


def _slices(channels: int, most: int) -> tuple[int, ...]:
    return tuple(min(most, channels - first) for first in range(0, channels, most))


def _quantized(case: MicroBench) -> Iterator[MicroBench]:
    """The same on int8, between a quantization and its undoing; nothing where boards have no such operator."""
    if case.group in ("leaky_relu", "batch_norm", "softmax", "chain"):
        return
    graph = quantize(case.graph, calibrate(case.graph, case.image()[None], 100.0))
    yield MicroBench(f"int8 {case.name}", f"int8 {case.group}", graph)
