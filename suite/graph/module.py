"""A graph as an image classifier made of PyTorch's own layers: what a surrogate that begins as a graph is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init as _skip_init

from suite.graph.ir import Graph, GraphError, Node, Op
from suite.graph.reference import apply_with
from suite.graph.surrogate import head_of, rest_of

skip_init: Callable[..., nn.Module] = _skip_init  # a layer whose weights are not drawn


class GraphModule(nn.Module):
    """``graph``, of one image input and one (n_classes,) output, from float32 [N, C, H, W] to [N, n_classes].

    The weights of the nodes named in ``trained`` (None: all) are learned, the others stay. Convolutions and linear
    layers are modules, so that what knows how to speed those up finds them. Batch norms keep their inference form.
    ``finish(prepare(images))`` is ``forward``; training changes nothing about what ``prepare`` makes.

    Raises:
        GraphError: the graph has several inputs or outputs, or is in int8, or ``trained`` names no node with weights.
    """

    def __init__(self, graph: Graph, trained: Collection[str] | None = None) -> None:
        super().__init__()
        if len(graph.inputs) != 1 or len(graph.outputs) != 1 or graph.scales:
            raise GraphError("a surrogate takes a float32 graph with one input and one output")
        self.graph = graph
        learnable = {node.name for node in graph.parameter_nodes()}
        chosen = learnable if trained is None else set(trained)
        if odd := sorted(chosen - learnable):
            raise GraphError(f"no node {odd[0]!r} with weights to train")
        self._places = {node.name: f"node{index}" for index, node in enumerate(graph.nodes) if node.has_parameters}
        for node in graph.parameter_nodes():
            layer = _layer(node, graph).requires_grad_(node.name in chosen)
            self.add_module(self._places[node.name], layer)
        head = head_of(graph, learnable - chosen)
        rest = rest_of(graph, head)
        self._first, self._last = head.nodes, rest.nodes
        self._between = {*rest.inputs, *graph.outputs} - {node.output for node in rest.nodes}

    @property
    def prepared_bytes(self) -> int:
        """Size of what ``prepare`` makes of one image."""
        return sum(self.graph.bytes_of(name) for name in self._between)

    def forward(self, images: Tensor) -> Tensor:
        """The graph's output."""
        return self.finish(self.prepare(images))

    def prepare(self, images: Tensor) -> dict[str, Tensor]:
        """By name, [N, ...] each: what the nodes that training changes read of the others."""
        held = self._run(self._first, {self.graph.inputs[0]: images})
        return {name: held[name] for name in sorted(self._between)}

    def finish(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """The graph's output, from what ``prepare`` made."""
        return self._run(self._last, prepared)[self.graph.outputs[0]]

    def _run(self, nodes: Iterable[Node], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        held = dict(given)
        for node in nodes:
            read = [held[name] for name in node.inputs]
            place = self._places.get(node.name)
            held[node.output] = getattr(self, place)(read[0]) if place else apply_with(node, read, {})
        return held


class _ScaleShift(nn.Module):
    """A batch norm in its inference form."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(scale), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


def _layer(node: Node, graph: Graph) -> nn.Module:
    weights = {key: torch.tensor(np.asarray(array), dtype=torch.float32) for key, array in node.weights.items()}
    if node.op is Op.BATCH_NORM:
        return _ScaleShift(weights["scale"], weights["shift"])
    weight, attrs = weights["weight"], node.attrs
    if node.op is Op.LINEAR:
        layer = skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    else:
        pairs = {
            name: (attrs[f"{short}_h"], attrs[f"{short}_w"])
            for name, short in (("stride", "stride"), ("padding", "pad"), ("dilation", "dilation"))
        }
        layer = skip_init(
            nn.Conv2d, weight.shape[1] * attrs["groups"], weight.shape[0], tuple(weight.shape[2:]),
            groups=attrs["groups"], **pairs,
        )  # fmt: skip
    layer.load_state_dict(weights)
    return layer
