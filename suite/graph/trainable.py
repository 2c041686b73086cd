"""A graph as a PyTorch module: the way to train any model that was exported, whatever it was written as."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from suite.graph.ir import Graph, GraphError
from suite.graph.reference import apply_with


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
