"""The companion branch as a graph, and the backbone and it as one model."""

from __future__ import annotations

from dataclasses import dataclass

from defenses.mirror.reading import Backbone
from defenses.mirror.strategy import Strategy
from suite.graph.building import GraphBuilder
from suite.graph.ir import Graph, subgraph

ANSWER = "cpm.answer"
PREFIX = "cpm."
CORRECTION = f"{PREFIX}correction"


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
    """
    builder = GraphBuilder(backbone.graph, seed)
    crossing = [read_at(builder, tap, strategy.grid, strategy.sampled) for tap in strategy.taps]
    n_public = len(builder.nodes)
    hidden_map: str | None = None
    for at, read in enumerate(crossing):
        hidden_map = _stage(builder, at, read, hidden_map, strategy)
    assert hidden_map is not None
    logits = backbone.logits
    flat = builder.flatten(f"{PREFIX}flatten", hidden_map)
    correction = builder.linear(CORRECTION, flat, backbone.graph.shapes[logits][0])
    builder.softmax(ANSWER, builder.plus(f"{PREFIX}rectified", logits, correction))
    hidden = frozenset(node.name for node in builder.nodes[n_public:])
    return Mirrored(builder.graph((ANSWER,)), hidden, tuple(crossing))


def read_at(builder: GraphBuilder, tap: str, grid: int, sampled: bool) -> str:
    """The tensor that crosses for ``tap``: its name tells how it was made."""
    if sampled:
        return builder.sampled(f"{tap}.sampled{grid}", tap, grid)
    return builder.mean(f"{tap}.mean{grid}", tap, grid)


def _stage(builder: GraphBuilder, at: int, read: str, before: str | None, strategy: Strategy) -> str:
    name = f"{PREFIX}{at}"
    found = builder.conv(f"{name}.read", read, strategy.width, kernel=1)
    if before is not None:
        found = builder.plus(f"{name}.join", found, builder.averaged_like(f"{name}.carry", before, found))
    found = builder.relu(f"{name}.relu", found)
    for layer in range(strategy.depth):
        found = builder.conv(f"{name}.conv{layer}", found, strategy.width, kernel=3)
        found = builder.relu(f"{name}.relu{layer}", found)
    return found
