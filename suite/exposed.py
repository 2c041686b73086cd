"""Reading a public part: where its layers belong in the victim's architecture, and what it answers by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import nn

from suite.graph.export import export_graph
from suite.graph.floating import as_float
from suite.graph.fold import without_dead_nodes
from suite.graph.ir import Graph, GraphError, Node, Op, Weights

LayerWeights = Mapping[str, Weights]


def template_of(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The graph of a model of the attacker's own, to logits, with batch norms folded like a deployment's."""
    return export_graph(module, input_shape, softmax=False)


def with_weights(graph: Graph, weights: Mapping[str, LayerWeights]) -> Graph:
    """The graph with other weights for the nodes that are named."""
    nodes = (replace(node, weights=weights[node.name]) if node.name in weights else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def exposed_layers(
    public: Sequence[Graph], template: Graph, input_shape: tuple[int, int, int]
) -> dict[str, LayerWeights]:
    """The layers of ``template`` that lie open, by name, with the weights that the public part has for them.

    The layers of one public graph stand in the template one behind the other. A graph that takes the image begins
    where the template begins, one that ends in the softmax ends where it ends; any other is put at the first place
    behind the one before where all its layers fit. Layers in int8 are turned back into float32.
    """
    known = _Layers(template)
    found: dict[str, LayerWeights] = {}
    at = 0
    for index, graph in enumerate(public):
        layers = _Layers(graph)
        place = known.place_of(layers, at, first=index == 0 and _takes_image(graph, input_shape), last=_answers(graph))
        if place is None:
            continue
        for mine, theirs in zip(known.nodes[place:], as_float(graph).parameter_nodes(), strict=False):
            found[mine.name] = theirs.weights
        at = place + len(layers.nodes)
    return found


class _Layers:
    """The layers with parameters of a graph, and what two of them must share to be the same layer."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.parameter_nodes()
        self.kinds = [_kind(node, graph) for node in self.nodes]

    def place_of(self, other: _Layers, at: int, *, first: bool, last: bool) -> int | None:
        """The index from which on our layers are ``other``'s, at least ``at``; None where they are nowhere."""
        n, size = len(self.kinds), len(other.kinds)
        if not size:
            return None
        places = range(at, n - size + 1)
        if first:
            places = range(0, min(1, n - size + 1))
        elif last:
            places = range(max(at, n - size), n - size + 1)
        return next((p for p in places if self.kinds[p : p + size] == other.kinds), None)


def _kind(node: Node, graph: Graph) -> tuple[object, ...]:
    shape = next(iter(node.weights.values())).shape
    return node.op, tuple(sorted(node.attrs.items())), shape, graph.shapes[node.output]


def answering_graph(public: Sequence[Graph], input_shape: tuple[int, int, int], n_classes: int) -> Graph:
    """The part of the public graphs that leads from the image to the last (n_classes,) tensor it makes by itself.

    In logits: a softmax at its end is left out.

    Raises:
        GraphError: the public part makes no such tensor without the TEE.
    """
    runs = list(_without_tee(public, input_shape))
    nodes = tuple(node for graph in runs for node in graph.nodes)
    shapes = {name: shape for graph in runs for name, shape in graph.shapes.items()}
    scales = {name: scale for graph in runs for name, scale in graph.scales.items()}
    ends = [name for graph in runs for name in graph.outputs if graph.shapes[name] == (n_classes,)]
    if not ends:
        raise GraphError("the public part gives no answer without the TEE")
    makers = {node.output: node for node in nodes}
    end = ends[-1]
    while makers[end].op is Op.SOFTMAX:
        end = makers[end].inputs[0]
    return without_dead_nodes(Graph(public[0].inputs[:1], (end,), nodes, shapes, scales))


def _without_tee(public: Sequence[Graph], input_shape: tuple[int, int, int]) -> Iterator[Graph]:
    """The graphs that can run on the image and what those before have made."""
    if not public or not _takes_image(public[0], input_shape):
        return
    made = set(public[0].inputs[:1])
    for graph in public:
        if made.issuperset(graph.inputs):
            made.update(graph.outputs)
            yield graph


def _takes_image(graph: Graph, input_shape: tuple[int, int, int]) -> bool:
    return bool(graph.inputs) and graph.shapes[graph.inputs[0]] == tuple(input_shape)


def _answers(graph: Graph) -> bool:
    return bool(graph.nodes) and graph.nodes[-1].op is Op.SOFTMAX
