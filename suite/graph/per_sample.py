"""Gradients of single images, seen through their norms, without building them.

The gradient of one image's loss with respect to a layer's weight is a sum over positions of the layer's input there
times the signal that comes back there. Its norm needs the inner products of either alone (Gram matrices), which are
small where maps are small; where maps are large and the filter is small, the gradient itself is the cheaper way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows it by)
from numpy.typing import NDArray
from torch import Tensor

from suite.graph.ir import Graph, GraphError, Node, Op
from suite.graph.reference import apply_with
from victims.inference import one_thread

Floats = NDArray[np.float64]

SIGNALS = ("weight", "bias", "radial", "signal", "input", "fed", "output", "active")
"""What is known of a layer and an image, see ``PerSample.layers``."""

_CHUNK_FLOATS = 1 << 23  # of unfolded inputs at once: 32 MiB
_LEAST = 1e-45  # the smallest positive float32
_OF_WEIGHTS = frozenset({Op.CONV2D, Op.LINEAR, Op.BATCH_NORM})


@dataclass(frozen=True, slots=True)
class PerSample:
    """What single images do to a model. ``loss`` float64 [N]: cross-entropy of the true class.

    ``scale`` float64 [N]: the largest magnitude in the gradient of the loss with respect to the logits, one minus the
    true class's probability. ``layers`` float64 [N, L, len(SIGNALS)], of the layers asked for, in the graph's order:

    - ``weight``, ``bias``: Euclidean norms of the gradients of loss / scale with respect to either (of a batch norm:
      scale and shift). Without the division a confident model's underflow.
    - ``radial``: the inner product of that gradient and the weight itself, which is how it would change its length.
    - ``signal``: norm of the gradient of loss / scale with respect to the layer's output.
    - ``input``, ``fed``: norm of what goes into the layer, and how much of it is above 0; ``output``, ``active``: the
      same of what comes out.
    """

    loss: Floats
    scale: Floats
    layers: Floats


def per_sample(
    graph: Graph,
    inputs: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    layers: tuple[str, ...] | None = None,
    batch: int = 64,
) -> PerSample:
    """Losses and gradient norms of images, ``batch`` at a time, on one thread.

    ``inputs``: float32 [N, *shape] by name; the graph's one output is logits or, by a softmax, probabilities
    (n_classes,). ``layers`` names nodes with weights; None takes all. Memory grows with ``batch``, not with N.

    Raises:
        GraphError: there is more than one output, it is no vector, a layer has no weights, or the graph is int8.
    """
    _check(graph, layers)
    chosen = tuple(node.name for node in graph.parameter_nodes()) if layers is None else layers
    parts = []
    with one_thread():
        weights = {node.name: _tensors(node) for node in graph.nodes}
        for start in range(0, len(labels), batch):
            part = {name: torch.tensor(array[start : start + batch]) for name, array in inputs.items()}
            parts.append(_one_batch(graph, weights, part, torch.tensor(labels[start : start + batch]), chosen))
    if not parts:
        return PerSample(np.zeros(0), np.zeros(0), np.zeros((0, len(chosen), len(SIGNALS))))
    loss, scale, values = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    return PerSample(loss, scale, values)


def _check(graph: Graph, layers: tuple[str, ...] | None) -> None:
    if len(graph.outputs) != 1 or len(graph.shapes[graph.outputs[0]]) != 1:
        raise GraphError(f"losses need one (n_classes,) output, the graph makes {', '.join(graph.outputs)}")
    _check_layers(graph, layers)


def _check_layers(graph: Graph, layers: tuple[str, ...] | None) -> None:
    if graph.scales:
        raise GraphError("an int8 graph has no gradients: make it a float one first")
    known = {node.name for node in graph.parameter_nodes() if node.op in _OF_WEIGHTS}
    if odd := sorted(set(layers or ()) - known):
        raise GraphError(f"no node {odd[0]!r} with weights to look at")


def _tensors(node: Node) -> dict[str, Tensor]:
    return {key: torch.tensor(np.asarray(array), dtype=torch.float32) for key, array in node.weights.items()}


def per_sample_behind(
    graph: Graph,
    inputs: Mapping[str, NDArray[np.float32]],
    signals: Mapping[str, NDArray[np.float32]],
    layers: tuple[str, ...],
) -> Floats:
    """``PerSample.layers`` of one batch through a part of a model, from the gradients that come back to what it makes.

    ``inputs``, and ``signals`` by the names of tensors in the graph: float32 [N, *shape]. These are gradients of each
    image's loss, so that the norms are of that loss, divided by nothing.

    Raises:
        GraphError: a layer has no weights, or the graph is int8.
    """
    _check_layers(graph, layers)
    with one_thread():
        weights = {node.name: _tensors(node) for node in graph.nodes}
        held = _forward(graph, weights, {name: torch.tensor(array) for name, array in inputs.items()}, layers)
        ends = {name: torch.tensor(array) for name, array in signals.items()}
        return _backward(graph, weights, held, ends, layers)


def _one_batch(
    graph: Graph,
    weights: Mapping[str, Mapping[str, Tensor]],
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    chosen: tuple[str, ...],
) -> tuple[Floats, Floats, Floats]:
    answer = graph.outputs[0]
    softmax = next((node for node in graph.nodes if node.output == answer and node.op is Op.SOFTMAX), None)
    logits = softmax.inputs[0] if softmax else answer
    held = _forward(graph, weights, inputs, chosen, softmax)
    loss, back, scale = _loss(held[logits].detach(), labels)
    return loss, scale, _backward(graph, weights, held, {logits: back}, chosen)


def _forward(
    graph: Graph,
    weights: Mapping[str, Mapping[str, Tensor]],
    inputs: Mapping[str, Tensor],
    chosen: tuple[str, ...],
    without: Node | None = None,
) -> dict[str, Tensor]:
    """Every tensor of the graph by name; autograd begins at the first of the ``chosen`` layers."""
    held = dict(inputs)
    for node in graph.nodes:
        if node is without:
            continue
        made = apply_with(node, [held[name] for name in node.inputs], weights[node.name])
        if node.name in chosen and not made.requires_grad:
            made.requires_grad_()  # nothing before it is asked for
        held[node.output] = made
    return held


def _backward(
    graph: Graph,
    weights: Mapping[str, Mapping[str, Tensor]],
    held: Mapping[str, Tensor],
    ends: Mapping[str, Tensor],
    chosen: tuple[str, ...],
) -> Floats:
    """What the ``chosen`` layers tell, [N, L, len(SIGNALS)], of the gradients ``ends`` that come back to tensors."""
    wanted = [node for node in graph.nodes if node.name in chosen]
    n = len(next(iter(ends.values())))
    if not wanted:
        return np.zeros((n, 0, len(SIGNALS)))
    outputs = [held[node.output] for node in wanted]
    reached = [name for name in ends if held[name].requires_grad]
    signals = torch.autograd.grad(
        [held[name] for name in reached], outputs, [ends[name] for name in reached], allow_unused=True
    )
    with torch.no_grad():
        rows = []
        for node, out, signal in zip(wanted, outputs, signals, strict=True):
            told = torch.zeros_like(out) if signal is None else signal
            rows.append(_layer(node, held[node.inputs[0]], out, told, weights[node.name]))
        return torch.stack(rows, dim=1).double().numpy()


def _loss(logits: Tensor, labels: Tensor) -> tuple[Floats, Tensor, Floats]:
    """Cross-entropy [N], its gradient [N, n_classes] divided by the largest of its magnitudes, and these [N]."""
    wide = logits.double()
    logs = torch.log_softmax(wide, dim=1)
    rows = torch.arange(len(labels))
    back = logs.exp()
    back[rows, labels] = 0.0
    rest = back.sum(dim=1).clamp(min=_LEAST)  # in place of 1 - p, which is 0 long before this is
    back[rows, labels] = -rest
    loss = torch.where(rest < 0.5, -torch.log1p(-rest.clamp(max=0.5)), -logs[rows, labels])
    return loss.numpy(), (back / rest[:, None]).float(), rest.numpy()


def _layer(node: Node, given: Tensor, made: Tensor, signal: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The signals of one layer, [N, len(SIGNALS)]."""
    flat = signal.flatten(1)
    if node.op is Op.BATCH_NORM:
        wide, maps = signal.flatten(2) if signal.dim() > 2 else signal[..., None], given.reshape(*given.shape[:2], -1)
        squared = (wide * maps).sum(2).square().sum(1)
        of_bias = wide.sum(2)
        shift = weights["shift"]
    else:
        of_bias = flat if node.op is Op.LINEAR else signal.sum((2, 3))
        shift = weights["bias"]
        squared = _linear(given, signal) if node.op is Op.LINEAR else _conv(node, given, signal, weights["weight"])
    # What the weight made is what came out less the bias; the gradient's product with the weight is the signal's
    # with that.
    radial = (signal * made).flatten(1).sum(1) - of_bias @ shift
    return torch.stack(
        [
            squared.clamp(min=0.0).sqrt(),
            of_bias.norm(dim=1),
            radial,
            flat.norm(dim=1),
            *_size(given),
            *_size(made),
        ],
        dim=1,
    )


def _size(values: Tensor) -> tuple[Tensor, Tensor]:
    """Norms [N], and how much is above 0."""
    return values.flatten(1).norm(dim=1), (values > 0).flatten(1).float().mean(1)


def _linear(given: Tensor, signal: Tensor) -> Tensor:
    return given.square().sum(1) * signal.square().sum(1)


def _conv(node: Node, given: Tensor, signal: Tensor, weight: Tensor) -> Tensor:
    """Squared norms [N] of the gradients of a convolution's weight."""
    groups, places = node.attrs["groups"], signal.shape[2] * signal.shape[3]
    inside, outside = weight.shape[1:].numel(), weight.shape[0] // groups
    return torch.cat(
        [
            _gram(columns, back) if places * (inside + outside) < inside * outside else _direct(columns, back)
            for columns, back in _unfolded(node, given, signal, weight, groups)
        ]
    )


def _unfolded(
    node: Node, given: Tensor, signal: Tensor, weight: Tensor, groups: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """What each position sees [n, groups, C * KH * KW, P] and what comes back to it [n, groups, O, P]; n at a time."""
    a, places = node.attrs, signal.shape[2] * signal.shape[3]
    size = weight.shape[1:].numel() * groups * places
    step = max(1, _CHUNK_FLOATS // size)
    for start in range(0, len(given), step):
        maps = given[start : start + step]
        n = len(maps)
        columns = F.unfold(
            maps,
            (weight.shape[2], weight.shape[3]),
            dilation=(a["dilation_h"], a["dilation_w"]),
            padding=(a["pad_h"], a["pad_w"]),
            stride=(a["stride_h"], a["stride_w"]),
        )
        back = signal[start : start + step].reshape(n, groups, -1, places)
        yield columns.reshape(n, groups, -1, places), back


def _gram(columns: Tensor, back: Tensor) -> Tensor:
    """<U^T U, D^T D>: P x P of each, summed over the groups."""
    return ((columns.transpose(2, 3) @ columns) * (back.transpose(2, 3) @ back)).sum((1, 2, 3))


def _direct(columns: Tensor, back: Tensor) -> Tensor:
    """||D U^T||^2."""
    return (back @ columns.transpose(2, 3)).square().sum((1, 2, 3))
