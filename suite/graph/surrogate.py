"""A stand-in for the hidden rest of a model: what follows the open layers, fitted to what the deployment answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.graph.ir import Graph, GraphError, Node, Op, Weights, subgraph
from suite.graph.reference import apply_with, run_graph
from suite.graph.trainable import TrainableGraph
from victims.inference import one_thread

READ_OUT = 1024
"""Numbers that a linear read-out takes of each tensor at most; larger maps are averaged until they fit."""

_BATCH = 128
_LEAST_SPREAD = 1e-4
_SAMPLE = 256
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Fit:
    """How a surrogate is trained: Adam, with a learning rate that falls along a cosine."""

    epochs: int = 20
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0


def head_of(template: Graph, layers: Collection[str]) -> Graph:
    """All of ``template`` that can be computed with no other layers than ``layers``, which read the image.

    Its outputs are what the rest reads.
    """
    known = set(template.inputs)
    nodes: list[Node] = []
    for node in template.nodes:
        if known.issuperset(node.inputs) and (not node.has_parameters or node.name in layers):
            known.add(node.output)
            nodes.append(node)
    return subgraph(template, nodes)


def rest_of(template: Graph, head: Graph) -> Graph:
    """What of ``template`` is not in ``head``."""
    done = {node.name for node in head.nodes}
    return subgraph(template, [node for node in template.nodes if node.name not in done])


def activations(graph: Graph, images: NDArray[np.float32], batch: int = _BATCH) -> dict[str, NDArray[np.float32]]:
    """The outputs of a graph that reads images alone, float32 [N, *shape] by name."""
    (image,) = graph.inputs
    with one_thread():
        parts = [run_graph(graph, {image: images[i : i + batch]}) for i in range(0, len(images), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in graph.outputs}


def with_small_maps(head: Graph) -> Graph:
    """``head`` with vectors of at most ``READ_OUT`` numbers for outputs: maps are averaged to few pixels, laid flat.

    So that what it makes of many images fits in memory.
    """
    nodes, shapes, outputs = list(head.nodes), dict(head.shapes), []

    def add(node: Node, *shape: int) -> str:
        nodes.append(node)
        shapes[node.output] = shape
        return node.output

    for name in head.outputs:
        small = name
        if len(head.shapes[name]) == 3:
            channels, height, width = head.shapes[name]
            while height * width > 1 and channels * height * width > READ_OUT:
                height, width = -(-height // 2), -(-width // 2)
            size = {"out_h": height, "out_w": width}
            small = add(_node(f"{name}.small", Op.ADAPTIVE_AVG_POOL2D, small, size), channels, height, width)
            small = add(_node(f"{name}.flat", Op.FLATTEN, small), channels * height * width)
        outputs.append(small)
    return Graph(head.inputs, tuple(outputs), tuple(nodes), shapes)


def read_out(inputs: Mapping[str, NDArray[np.float32]], n_classes: int) -> tuple[Graph, frozenset[str]]:
    """A linear layer on ``inputs`` [N, F], each number standardised, and its name.

    Untrained: its weights are zeros. It takes the vectors by their own names.
    """
    nodes: list[Node] = []
    shapes: dict[str, tuple[int, ...]] = {name: array.shape[1:] for name, array in inputs.items()}

    def add(node: Node, size: int) -> str:
        nodes.append(node)
        shapes[node.output] = (size,)
        return node.output

    vectors = []
    for name, array in inputs.items():
        wide = array.astype(np.float64)
        scale = 1.0 / np.maximum(wide.std(axis=0), _LEAST_SPREAD)
        moved = {"scale": scale.astype(np.float32), "shift": (-wide.mean(axis=0) * scale).astype(np.float32)}
        vectors.append(add(_node(f"{name}.even", Op.BATCH_NORM, name, weights=moved), wide.shape[1]))
    width = sum(shapes[name][0] for name in vectors)
    joined = vectors[0]
    if len(vectors) > 1:
        joined = add(Node("joined", Op.CONCAT, tuple(vectors), "joined", "joined"), width)
    empty = {"weight": np.zeros((n_classes, width), np.float32), "bias": np.zeros(n_classes, np.float32)}
    add(_node("read_out", Op.LINEAR, joined, weights=empty), n_classes)
    add(_node("answer", Op.SOFTMAX, "read_out"), n_classes)
    return Graph(tuple(inputs), ("answer",), tuple(nodes), shapes), frozenset({"read_out"})


def _node(
    name: str, op: Op, given: str, attrs: Mapping[str, int] | None = None, weights: Mapping[str, Weights] | None = None
) -> Node:
    return Node(name, op, (given,), name, name, attrs or {}, weights or {})


def with_random(graph: Graph, layers: Collection[str], inputs: Mapping[str, NDArray[np.float32]], seed: int) -> Graph:
    """``graph`` with random weights in ``layers``, each scaled so that what it makes has the spread 1 over ``inputs``.

    Batch norms among them begin as copies. Such a start suits any depth, with batch norms folded away or not.
    """
    draw = np.random.default_rng(seed)
    held = {name: torch.from_numpy(array[:_SAMPLE]) for name, array in inputs.items()}
    nodes = []
    with one_thread(), torch.no_grad():
        for node in graph.nodes:
            if node.name in layers:
                node = _random(node, [held[name] for name in node.inputs], draw)
            weights = {key: torch.tensor(array) for key, array in node.weights.items()}
            held[node.output] = apply_with(node, [held[name] for name in node.inputs], weights)
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _random(node: Node, given: list[Tensor], draw: np.random.Generator) -> Node:
    weights = {key: np.zeros(array.shape, np.float32) for key, array in node.weights.items()}
    if node.op is Op.BATCH_NORM:
        weights["scale"] += 1.0
        return replace(node, weights=weights)
    weights["weight"] = draw.standard_normal(node.weights["weight"].shape).astype(np.float32)
    made = apply_with(node, given, {key: torch.from_numpy(array) for key, array in weights.items()})
    weights["weight"] /= max(float(made.std()), _LEAST_SPREAD)
    return replace(node, weights=weights)


def fit_answers(
    graph: Graph,
    layers: Collection[str],
    inputs: Mapping[str, NDArray[np.float32]],
    answers: NDArray[np.float32],
    how: Fit,
) -> Graph:
    """Train ``layers`` of ``graph`` until it answers ``inputs`` [N, *shape] with ``answers`` [N, n_classes].

    These are probabilities, as the output policy lets them out: rows need not sum to 1. Minimises the cross-entropy
    between them and the graph's softmax. Deterministic.

    Raises:
        GraphError: the graph does not end in a softmax.
    """
    end = graph.nodes[-1]
    if end.op is not Op.SOFTMAX:
        raise GraphError(f"a surrogate answers with a softmax, not with {end.op}")
    below = replace(graph, nodes=graph.nodes[:-1], outputs=end.inputs)
    wanted = torch.tensor(answers) / torch.tensor(answers.sum(axis=1, keepdims=True)).clamp(min=_LEAST)
    held = {name: torch.tensor(array) for name, array in inputs.items()}
    order = np.random.default_rng(how.seed)
    with one_thread():
        model = TrainableGraph(below, layers)
        optimizer = torch.optim.Adam(model.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.epochs * -(-len(answers) // _BATCH))
        for _ in range(how.epochs):
            places = torch.from_numpy(order.permutation(len(answers)))
            for chosen in torch.split(places, _BATCH):
                logits = model({name: array[chosen] for name, array in held.items()})[end.inputs[0]]
                loss = torch.nn.functional.cross_entropy(logits, wanted[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        return replace(graph, nodes=(*model.trained().nodes, end))
