"""The companion branch as a graph, and the backbone and it as one model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import Strategy
from suite.graph.ir import Graph, Node, Op, Weights, subgraph

ANSWER = "cpm.answer"
PREFIX = "cpm."
_POOLED = ".crossing"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Backbone, branch and rectified answer in one graph, from the image to ``ANSWER``.

    ``hidden``: names of the nodes of the branch. ``crossing``: the tensors that it reads, by tap.
    """

    graph: Graph
    hidden: frozenset[str]
    crossing: tuple[str, ...]

    def branch(self) -> Graph:
        """The branch alone: what crosses and the backbone's logits in, its own logits out."""
        nodes = [node for node in self.graph.nodes if node.name in self.hidden]
        cut = next(i for i, node in enumerate(nodes) if node.name == f"{PREFIX}rectified")
        return subgraph(self.graph, nodes[:cut])


def mirrored(backbone: Backbone, strategy: Strategy, seed: int | None) -> Mirrored:
    """Join ``backbone`` and the branch of ``strategy``, whose weights are drawn from ``seed`` (None: all zero).

    The branch mirrors the backbone's stages: at each tap a 1x1 convolution brings what crosses to the branch's width
    and adds the branch's own map from the tap before, averaged to this one's size; then come ``depth`` 3x3
    convolutions. A linear layer makes corrections, which are added to the backbone's logits.

    The zeros take no memory: a layout whose weights do not matter is cheap to make.
    """
    builder = _Builder(backbone.graph, seed)
    hidden_map: str | None = None
    crossing = [builder.public_pool(tap, strategy.grid) for tap in strategy.taps]
    n_public = len(builder.nodes)
    for at, read in enumerate(crossing):
        hidden_map = _stage(builder, at, read, hidden_map, strategy)
    assert hidden_map is not None
    flat = builder.add(f"{PREFIX}flatten", Op.FLATTEN, (hidden_map,), (math.prod(builder.shapes[hidden_map]),))
    logits = backbone.logits
    correction = builder.linear(f"{PREFIX}correction", flat, backbone.graph.shapes[logits][0])
    rectified = builder.add(f"{PREFIX}rectified", Op.ADD, (logits, correction), builder.shapes[correction])
    builder.add(ANSWER, Op.SOFTMAX, (rectified,), builder.shapes[rectified])
    graph = Graph(backbone.graph.inputs, (ANSWER,), tuple(builder.nodes), builder.shapes)
    hidden = frozenset(node.name for node in builder.nodes[n_public:])
    return Mirrored(graph, hidden, tuple(crossing))


def _stage(builder: _Builder, at: int, read: str, before: str | None, strategy: Strategy) -> str:
    name = f"{PREFIX}{at}"
    found = builder.conv(f"{name}.read", read, strategy.width, kernel=1)
    if before is not None:
        found = builder.add(
            f"{name}.join", Op.ADD, (found, builder.averaged(f"{name}.carry", before, found)), builder.shapes[found]
        )
    found = builder.add(f"{name}.relu", Op.RELU, (found,), builder.shapes[found])
    for layer in range(strategy.depth):
        found = builder.conv(f"{name}.conv{layer}", found, strategy.width, kernel=3)
        found = builder.add(f"{name}.relu{layer}", Op.RELU, (found,), builder.shapes[found])
    return found


class _Builder:
    """A graph as it grows."""

    def __init__(self, graph: Graph, seed: int | None) -> None:
        self.nodes = list(graph.nodes)
        self.shapes = dict(graph.shapes)
        self._draw = None if seed is None else np.random.default_rng(seed)

    def add(
        self,
        name: str,
        op: Op,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        attrs: dict[str, int] | None = None,
        weights: dict[str, Weights] | None = None,
    ) -> str:
        self.nodes.append(Node(name, op, inputs, name, name, attrs or {}, weights or {}))
        self.shapes[name] = shape
        return name

    def public_pool(self, tap: str, grid: int) -> str:
        """``tap`` averaged to at most ``grid`` x ``grid``; itself where it is no larger."""
        channels, height, width = self.shapes[tap]
        size = (min(grid, height), min(grid, width))
        return tap if size == (height, width) else self._pool(tap + _POOLED, tap, (channels, *size))

    def averaged(self, name: str, tensor: str, like: str) -> str:
        shape = (self.shapes[tensor][0], *self.shapes[like][1:])
        return tensor if shape == self.shapes[tensor] else self._pool(name, tensor, shape)

    def _pool(self, name: str, tensor: str, shape: tuple[int, ...]) -> str:
        attrs = {"out_h": shape[1], "out_w": shape[2]}
        return self.add(name, Op.ADAPTIVE_AVG_POOL2D, (tensor,), shape, attrs)

    def conv(self, name: str, tensor: str, out: int, kernel: int) -> str:
        channels, height, width = self.shapes[tensor]
        pad = kernel // 2
        attrs = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "groups"), 1)
        attrs |= {"pad_h": pad, "pad_w": pad}
        weights = self._weights((out, channels, kernel, kernel))
        return self.add(name, Op.CONV2D, (tensor,), (out, height, width), attrs, weights)

    def linear(self, name: str, tensor: str, out: int) -> str:
        return self.add(name, Op.LINEAR, (tensor,), (out,), None, self._weights((out, self.shapes[tensor][0])))

    def _weights(self, shape: tuple[int, ...]) -> dict[str, Weights]:
        """Kaiming's start (He et al. 2015) and no bias."""
        bias = np.zeros(shape[0], np.float32)
        if self._draw is None:
            return {"weight": np.broadcast_to(np.float32(0), shape), "bias": bias}
        drawn = self._draw.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        return {"weight": drawn.astype(np.float32), "bias": bias}
