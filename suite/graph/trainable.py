"""A graph as a PyTorch module: the way to train any model that was exported, whatever it was written as."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suite.graph.fold import without_dead_nodes
from suite.graph.ir import Graph, GraphError
from suite.graph.reference import apply_with

EVAL_BATCH = 256


class TrainableGraph(nn.Module):
    """``graph`` with the weights of the nodes named in ``trained`` (None: all) as parameters, the others fixed.

    Batch norms keep their inference form, scale and shift; dropout is gone since the export.

    Raises:
        GraphError: ``trained`` names a node that is not there or has no weights.
    """

    def __init__(self, graph: Graph, trained: Collection[str] | None = None) -> None:
        super().__init__()
        self.graph = graph
        learnable = {node.name for node in graph.parameter_nodes()}
        chosen = learnable if trained is None else set(trained)
        if odd := sorted(chosen - learnable):
            raise GraphError(f"no node {odd[0]!r} with weights to train")
        self._names: dict[tuple[str, str], str] = {}
        for index, node in enumerate(graph.nodes):
            for key, array in node.weights.items():
                name = self._names[node.name, key] = f"node{index}_{key}"  # node names may hold dots
                value = torch.tensor(np.asarray(array), dtype=torch.float32)
                if node.name in chosen:
                    self.register_parameter(name, nn.Parameter(value))
                else:
                    self.register_buffer(name, value)

    def weight(self, node: str, key: str) -> Tensor:
        """The weight ``key`` of a node, as it is now."""
        found: Tensor = getattr(self, self._names[node, key])
        return found

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Float32 [N, *shape] by input name to the same by output name."""
        held = dict(inputs)
        for node in self.graph.nodes:
            weights = {key: self.weight(node.name, key) for key in node.weights}
            held[node.output] = apply_with(node, [held[name] for name in node.inputs], weights)
        return {name: held[name] for name in self.graph.outputs}

    def trained(self) -> Graph:
        """The graph with the weights as they are now."""
        nodes = tuple(
            replace(
                node, weights={key: self.weight(node.name, key).detach().cpu().numpy().copy() for key in node.weights}
            )
            for node in self.graph.nodes
        )
        return replace(self.graph, nodes=nodes)


def run_in_batches(graph: Graph, images: NDArray[np.float32]) -> dict[str, Tensor]:
    """What ``graph`` makes of ``images`` [N, C, H, W], some at a time: float32 [N, *shape] by output name."""
    module = TrainableGraph(without_dead_nodes(graph), trained=())
    parts: dict[str, list[Tensor]] = {tensor: [] for tensor in graph.outputs}
    with torch.no_grad():
        for start in range(0, max(len(images), 1), EVAL_BATCH):
            made = module({graph.inputs[0]: torch.tensor(images[start : start + EVAL_BATCH])})
            for tensor, part in parts.items():
                part.append(made[tensor])
    return {tensor: torch.cat(part) for tensor, part in parts.items()}


def weights_of(*graphs: Graph) -> dict[str, NDArray[Any]]:
    """All weights by ``node/weight``, as a store entry keeps them."""
    nodes = [node for graph in graphs for node in graph.nodes]
    return {f"{node.name}/{key}": array for node in nodes for key, array in node.weights.items()}


def with_weights(graph: Graph, weights: Mapping[str, NDArray[Any]]) -> Graph:
    """``graph`` with the arrays of :func:`weights_of` in place; nodes without one keep what they have.

    Raises:
        ValueError: an array is of no node, or of another shape.
    """
    left = dict(weights)
    nodes = []
    for node in graph.nodes:
        found = {}
        for key, array in node.weights.items():
            new = left.pop(f"{node.name}/{key}", array)
            if new.shape != array.shape:
                raise ValueError(f"learned weight {node.name}/{key} is {new.shape}, the model has {array.shape}")
            found[key] = np.asarray(new, np.float32)
        nodes.append(replace(node, weights=found))
    if left:
        raise ValueError(f"learned weight {min(left)} is of no layer of the model")
    return replace(graph, nodes=tuple(nodes))
