"""Private slices on a public backbone, as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suite.graph.building import GraphBuilder
from suite.graph.fold import without_dead_nodes
from suite.graph.ir import Graph, subgraph
from suite.graph.reading import bottlenecks

LOGITS, ANSWER = "slices.logits", "slices.answer"
MOST_POOLED = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """How large slices are: ``width`` channels, on maps of at most ``grid`` x ``grid``."""

    width: int
    grid: int


@dataclass(frozen=True, slots=True)
class Sliced:
    """Backbone and slices in one graph, from the image to ``ANSWER``.

    ``crossing``: what enters the TEE, in the order of the slices. ``private``: the slices alone, from what crosses to
    ``LOGITS``. ``hidden``: names of the nodes that run in the TEE.
    """

    graph: Graph
    private: Graph
    crossing: tuple[str, ...]
    hidden: frozenset[str]


def places(architecture: str, graph: Graph) -> tuple[str, ...]:
    """The maps of a backbone that slices may read, first to last.

    Raises:
        ValueError: there is none.
    """
    found = bottlenecks(graph, behind=1)
    if not found:
        raise ValueError(
            f"teeslice: {architecture} has no map that slices could read: it needs a convolution before the map, and a"
            " layer with weights behind it"
        )
    return found


def sliced(
    backbone: Graph, readable: Sequence[str], kept: Sequence[int], shape: Shape, classes: int, seed: int | None
) -> Sliced:
    """Slices at the places ``kept`` (positions in ``readable``, ascending), with fresh weights (zeros without a seed).

    What no slice reads is left out of the backbone, its classifier in any case. A slice adds to a stream of
    ``shape.width`` channels, averaged to the size of the map it reads: a 1x1 convolution of the map, plus the stream,
    ReLU, a 3x3 convolution. A linear layer on the stream's average answers. Slices keep their names, so that a model
    with fewer of them takes over the weights of one with more.
    """
    taps = tuple(readable[at] for at in kept)
    bare = without_dead_nodes(Graph(backbone.inputs, taps, backbone.nodes, backbone.shapes))
    builder = GraphBuilder(bare, seed)
    crossing = tuple(builder.mean(f"{tap}.crossing", tap, shape.grid) for tap in taps)
    n_public = len(builder.nodes)
    stream = ""
    for at, read in zip(kept, crossing, strict=True):
        stream = _slice(builder, f"slice{at}", read, stream, shape.width)
    # As large as the smallest map allows, wherever the last slice is.
    size = min(MOST_POOLED, shape.grid, *(side for tap in readable for side in backbone.shapes[tap][1:]))
    flat = builder.flatten("slices.flatten", builder.mean("slices.pool", stream, size))
    builder.softmax(ANSWER, builder.linear(LOGITS, flat, classes))
    hidden = builder.nodes[n_public:]
    graph = builder.graph((ANSWER,))
    private = subgraph(graph, hidden[:-1])
    return Sliced(graph, private, crossing, frozenset(node.name for node in hidden))


def _slice(builder: GraphBuilder, name: str, read: str, stream: str, width: int) -> str:
    found = builder.conv(f"{name}.read", read, width, kernel=1)
    if stream:
        stream = builder.averaged_like(f"{name}.carry", stream, found)
        found = builder.plus(f"{name}.join", found, stream)
    found = builder.conv(f"{name}.conv", builder.relu(f"{name}.relu", found), width, kernel=3)
    if stream:
        found = builder.plus(f"{name}.sum", found, stream)
    return builder.relu(f"{name}.out", found)
