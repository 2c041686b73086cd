"""Putting several nodes in the place of one: how a defense takes a layer apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from suite.graph.ir import Graph, Node


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands in a node's place: ``nodes`` in order, the last of which makes the node's own output.

    ``shapes`` gives those of the tensors between them.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def rewrite(graph: Graph, take_apart: Callable[[Node], Parts | None]) -> Graph:
    """The graph with each node replaced by its parts; nodes for which there are None stay.

    Raises:
        GraphError: the parts read what nothing makes, or make something twice.
    """
    nodes: list[Node] = []
    shapes = dict(graph.shapes)
    for node in graph.nodes:
        parts = take_apart(node)
        nodes += [node] if parts is None else parts.nodes
        shapes |= {} if parts is None else parts.shapes
    return Graph(graph.inputs, graph.outputs, tuple(nodes), shapes)
