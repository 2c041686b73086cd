"""Which layers of a known architecture lie open in a deployment: its public file, laid over a model of one's own.

Public files hold no names, so layers are told by what they are, their order, and where they stand: those that read
the image count from the first layer, those that make the answer from the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from suite.graph.floating import as_float
from suite.graph.ir import Graph, Node, Op
from suite.graph.parse import FileSegment
from suite.graph.partition import World

_PARTS = (Op.CONV2D, Op.LINEAR, Op.BATCH_NORM)


@dataclass(frozen=True, slots=True)
class Exposed:
    """What an attacker knows of a model's layers, by the names that ``template``, its own model's graph, gives them.

    ``weights``: layers that lie open with the weights they have in the model. ``head``: those of them that follow the
    image without a hidden layer between, ``answering``: those behind which nothing is hidden. ``crossing``: of layers
    whose input comes out of the TEE, its name in a boundary. ``last``: the step that makes the answer as a float graph,
    where it is public, and ``feeds``: where its inputs come from, a name in a boundary or ``""`` for the image.
    """

    weights: Mapping[str, Node]
    head: tuple[str, ...]
    answering: tuple[str, ...]
    crossing: Mapping[str, str] = field(default_factory=dict)
    last: Graph | None = None
    feeds: Mapping[str, str] = field(default_factory=dict)


def exposed_in(template: Graph, steps: Sequence[FileSegment]) -> Exposed:
    """Lay the ``steps`` of a query, as a public file tells them, over a float graph of the same architecture."""
    layers = template.parameter_nodes()
    graphs = [(i, as_float(step.graph)) for i, step in enumerate(steps) if step.graph is not None]
    if not graphs:
        return Exposed({}, (), ())
    image = steps[0].inputs[0]
    names = _crossing_names(steps)
    found: dict[str, Node] = {}
    crossing: dict[str, str] = {}
    answers = steps[-1].graph is not None
    first, end = 0, len(layers)
    if answers:
        end = _from_the_end(layers, graphs[-1][1], found, crossing, names)
    for _, graph in graphs[:-1] if answers else graphs:
        for node in graph.parameter_nodes():
            at = next((i for i in range(first, end) if _alike(layers[i], node)), None)
            if at is None:
                continue
            first = at + 1
            _take(layers[at], node, found, crossing, names)
    if len(found) == len(layers) and not answers:
        found = _before_crossing(template, steps, graphs, found)
    head = _leading(layers, found)
    tail = _leading(layers[::-1], found)[::-1] if answers and graphs else ()
    last, feeds = None, {}
    if answers and (sources := _sources(graphs[-1][1], image, names)) is not None:
        last, feeds = graphs[-1][1], sources
        tail = tail[max(0, len(tail) - len(last.parameter_nodes())) :]
        if len(tail) != len(last.parameter_nodes()):
            last, tail = None, ()
    return Exposed(found, head, tail if last is not None else (), crossing, last, feeds)


def _crossing_names(steps: Sequence[FileSegment]) -> dict[str, str]:
    """Names in a boundary of the tensors that come out of the TEE."""
    return {
        tensor: f"step{i}.out{j}"
        for i, step in enumerate(steps)
        if step.world is World.TEE
        for j, tensor in enumerate(step.outputs)
    }


def _from_the_end(
    layers: Sequence[Node], graph: Graph, found: dict[str, Node], crossing: dict[str, str], names: Mapping[str, str]
) -> int:
    """Lay a graph that makes the answer over the last layers; where the first one that it covers stands."""
    end = len(layers)
    for node in reversed(graph.parameter_nodes()):
        if not end or not _alike(layers[end - 1], node):
            break
        end -= 1
        _take(layers[end], node, found, crossing, names)
    return end


def _take(layer: Node, node: Node, found: dict[str, Node], crossing: dict[str, str], names: Mapping[str, str]) -> None:
    if _is_whole(layer, node):
        found[layer.name] = node
    if node.inputs[0] in names:
        crossing[layer.name] = names[node.inputs[0]]


def _alike(layer: Node, node: Node) -> bool:
    """Whether a public node computes with what ``layer`` reads, as it does; it may have other filters, or more."""
    if layer.op is not node.op or layer.op not in _PARTS or dict(layer.attrs) != dict(node.attrs):
        return False
    return all(layer.weights[key].shape[1:] == node.weights[key].shape[1:] for key in layer.weights)


def _is_whole(layer: Node, node: Node) -> bool:
    """Whether it is the layer itself: a part of one (scaled, masked, thinned) keeps its biases in the TEE."""
    if any(layer.weights[key].shape != node.weights[key].shape for key in layer.weights):
        return False
    return "bias" not in layer.weights or bool(np.any(node.weights["bias"])) or not np.any(layer.weights["bias"])


def _leading(layers: Sequence[Node], found: Mapping[str, Node]) -> tuple[str, ...]:
    count = next((i for i, layer in enumerate(layers) if layer.name not in found), len(layers))
    return tuple(layer.name for layer in layers[:count])


def _before_crossing(
    template: Graph, steps: Sequence[FileSegment], graphs: Sequence[tuple[int, Graph]], found: Mapping[str, Node]
) -> dict[str, Node]:
    """Of a model that lies open and yet does not make the answer: the layers before the first thing the TEE takes.

    What comes behind may have been made for show; what the TEE works from was not.
    """
    taken = {tensor for step in steps if step.graph is None for tensor in step.inputs}
    count = 0
    for _, graph in graphs:
        for node in graph.nodes:
            if node.output in taken:
                names = [layer.name for layer in template.parameter_nodes()][:count]
                return {name: found[name] for name in names}
            count += node.has_parameters
    return dict(found)


def _sources(graph: Graph, image: str, names: Mapping[str, str]) -> dict[str, str] | None:
    """Where a step's inputs come from, or None where one comes from an earlier public step."""
    told = {tensor: "" if tensor == image else names.get(tensor) for tensor in graph.inputs}
    return None if None in told.values() else {tensor: name for tensor, name in told.items() if name is not None}
