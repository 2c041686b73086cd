"""Which of a model's layers a public file gives away, as its owner can tell who knows them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from suite.graph.ir import Graph, Node, Weights

OPEN_FROM = 0.9
"""A layer counts as open when its public likeness is at least this (see ``likeness``)."""


def likeness(model: Graph, public: Iterable[Graph]) -> dict[str, float]:
    """How much of each layer of ``model`` lies in the ``public`` graphs: 0 (nothing) to 1 (all), by node name.

    The mean over a layer's filters of the cosine between the filter and the one at its place in the public node that is
    most like it, of all that have the same shape; negative ones count as 0. Rounding to int8 and scaling a filter leave
    a filter what it is; shuffling the filters, mixing them, or hiding the weights that matter does not.
    """
    held = [node for graph in public for node in graph.parameter_nodes()]
    return {layer.name: max((_alike(layer, node) for node in held), default=0.0) for layer in model.parameter_nodes()}


def is_open(share: float) -> bool:
    """Whether a layer of this likeness counts as lying in the normal world."""
    return share >= OPEN_FROM


def _alike(layer: Node, node: Node) -> float:
    ours, theirs = _filters(layer.weights), _filters(node.weights)
    if layer.op is not node.op or ours.shape != theirs.shape:
        return 0.0
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    empty = lengths == 0
    both_empty = ~ours.any(axis=1) & ~theirs.any(axis=1)
    cosines = np.where(empty, both_empty, (ours * theirs).sum(axis=1) / np.where(empty, 1.0, lengths))
    return float(np.clip(cosines, 0.0, 1.0).mean())


def _filters(weights: Mapping[str, Weights]) -> NDArray[np.float64]:
    """The main weight as [filters, rest]; a batch norm's scale is one filter."""
    main = np.asarray(next(iter(weights.values())), dtype=np.float64)
    return main.reshape(len(main), -1) if main.ndim > 1 else main.reshape(1, -1)
