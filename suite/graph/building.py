"""Growing a graph: what a defense adds to a model, node by node, shapes and fresh weights taken care of."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from suite.graph.ir import Graph, Node, Op, Weights


class GraphBuilder:
    """A graph as it grows from ``graph``; weights are drawn from ``seed``, or all zero where that is None.

    The zeros take no memory: a layout whose weights do not matter is cheap to make. Every method that adds a node
    returns the name of the tensor that it makes, which is the node's own.
    """

    def __init__(self, graph: Graph, seed: int | None) -> None:
        self.nodes = list(graph.nodes)
        self.shapes = dict(graph.shapes)
        self._inputs = graph.inputs
        self._draw = None if seed is None else np.random.default_rng(seed)

    def add(
        self,
        name: str,
        op: Op,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        attrs: Mapping[str, int] | None = None,
        weights: Mapping[str, Weights] | None = None,
    ) -> str:
        """Any node."""
        self.nodes.append(Node(name, op, inputs, name, name, attrs or {}, weights or {}))
        self.shapes[name] = shape
        return name

    def mean(self, name: str, tensor: str, grid: int) -> str:
        """``tensor`` averaged to at most ``grid`` x ``grid``; itself where it is no larger."""
        channels, height, width = self.shapes[tensor]
        return self._averaged(name, tensor, (channels, min(grid, height), min(grid, width)))

    def sampled(self, name: str, tensor: str, grid: int) -> str:
        """The same from a quarter of the pixels: of each cell, its upper left."""
        channels, height, width = self.shapes[tensor]
        if max(height, width) <= grid:
            return tensor
        rows, columns = -(-height // grid), -(-width // grid)
        tall, wide = (max(side // 2, 1) for side in (rows, columns))
        attrs = {"kernel_h": tall, "kernel_w": wide, "stride_h": rows, "stride_w": columns, "pad_h": 0, "pad_w": 0}
        attrs |= {"ceil": 0, "count_include_pad": 1}
        shape = (channels, (height - tall) // rows + 1, (width - wide) // columns + 1)
        return self.add(name, Op.AVG_POOL2D, (tensor,), shape, attrs)

    def averaged_like(self, name: str, tensor: str, like: str) -> str:
        """``tensor`` averaged to the size of ``like``; itself where it has it."""
        return self._averaged(name, tensor, (self.shapes[tensor][0], *self.shapes[like][1:]))

    def _averaged(self, name: str, tensor: str, shape: tuple[int, ...]) -> str:
        if shape == self.shapes[tensor]:
            return tensor
        attrs = {"out_h": shape[1], "out_w": shape[2]}
        return self.add(name, Op.ADAPTIVE_AVG_POOL2D, (tensor,), shape, attrs)

    def relu(self, name: str, tensor: str) -> str:
        """max(x, 0)."""
        return self.add(name, Op.RELU, (tensor,), self.shapes[tensor])

    def plus(self, name: str, one: str, other: str) -> str:
        """The sum of two tensors of one shape."""
        return self.add(name, Op.ADD, (one, other), self.shapes[one])

    def flatten(self, name: str, tensor: str) -> str:
        """A map as a vector."""
        return self.add(name, Op.FLATTEN, (tensor,), (math.prod(self.shapes[tensor]),))

    def conv(self, name: str, tensor: str, out: int, kernel: int) -> str:
        """A square convolution of stride 1 that keeps the size; ``kernel`` is odd."""
        channels, height, width = self.shapes[tensor]
        pad = kernel // 2
        attrs = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "groups"), 1)
        attrs |= {"pad_h": pad, "pad_w": pad}
        weights = self._weights((out, channels, kernel, kernel))
        return self.add(name, Op.CONV2D, (tensor,), (out, height, width), attrs, weights)

    def linear(self, name: str, tensor: str, out: int) -> str:
        """A fully connected layer."""
        return self.add(name, Op.LINEAR, (tensor,), (out,), None, self._weights((out, self.shapes[tensor][0])))

    def softmax(self, name: str, tensor: str) -> str:
        """Probabilities of logits."""
        return self.add(name, Op.SOFTMAX, (tensor,), self.shapes[tensor])

    def graph(self, outputs: tuple[str, ...]) -> Graph:
        """What has grown so far."""
        return Graph(self._inputs, outputs, tuple(self.nodes), dict(self.shapes))

    def _weights(self, shape: tuple[int, ...]) -> dict[str, Weights]:
        """Kaiming's start (He et al. 2015) and no bias."""
        bias = np.zeros(shape[0], np.float32)
        if self._draw is None:
            return {"weight": np.broadcast_to(np.float32(0), shape), "bias": bias}
        drawn = self._draw.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        return {"weight": drawn.astype(np.float32), "bias": bias}
