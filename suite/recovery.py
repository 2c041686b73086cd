"""Weights of disguised layers: from what crosses between the worlds, or from a pre-trained model's likeness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from suite.disguised import Disguised, sight_of
from suite.exposed import LayerWeights
from suite.graph.ir import Graph
from suite.policy import OutputPolicy, Outputs, PolicyKind
from suite.unmasking import Floats, Mixture, by_least_squares, by_likeness, by_matching, differences

EXPLAINED = 0.9
"""Share of the variance of what is seen of a layer that makes it found."""


def resembling(layer: Disguised) -> LayerWeights:
    """A layer with the filters of the directions that the pre-trained model's (``layer.own``) are most like."""
    rows = by_likeness(differences(layer.filters, layer.n), layer.filters, layer.own.weights["weight"])
    return _weights(layer, rows, layer.own.weights["bias"].astype(np.float64))


def recovered(
    layers: Sequence[Disguised], template: Graph, outputs: Outputs, policy: OutputPolicy
) -> dict[str, LayerWeights]:
    """The layers, by name, that the tensors which crossed tell of; the last one by ``outputs``, if probabilities.

    Channels that were never active get a filter of zeros, which is what they were seen to do.
    """
    known = {layer.own.inputs[0]: layer.taken for layer in layers}
    if policy.kind is PolicyKind.PROBS:
        known[template.outputs[0]] = outputs.astype(np.float32)
    found = {}
    mixture: Mixture | None
    for layer in layers:
        if layer.own.output == template.outputs[0] and template.outputs[0] in known:
            mixture = _last(layer, outputs)
        else:
            mixture = _behind(layer, template, known)
        if mixture is not None and mixture.quality >= EXPLAINED:
            found[layer.own.name] = _weights(layer, mixture.rows, mixture.bias)
    return found


def _last(layer: Disguised, outputs: Outputs) -> Mixture:
    """The layer before the softmax: logits less their mean follow from the probabilities, and answer the same."""
    logs = np.log(np.maximum(outputs.astype(np.float64), 1e-30))
    logs -= logs.mean(axis=1, keepdims=True)
    return by_least_squares(layer.made().numpy().astype(np.float64), logs, np.ones(logs.shape, bool))


def _behind(layer: Disguised, template: Graph, known: Mapping[str, NDArray[np.float32]]) -> Mixture | None:
    """A layer whose output is seen behind its activation."""
    sight = sight_of(layer, template, known)
    if sight is None:
        return None
    made = layer.made()
    directions = differences(layer.filters, layer.n)
    values = np.einsum("nk...,dk->nd...", made.numpy(), directions).astype(np.float32)
    up, down = (sight.through(torch.tensor(sign * values)) for sign in (1, -1))
    matched = by_matching(directions, up, down, sight.seen, sight.active)
    if sight.pooled:
        return matched
    return by_least_squares(sight.through(made), sight.seen, sight.active).or_else(matched)


def _weights(layer: Disguised, rows: Floats, bias: Floats) -> LayerWeights:
    flat = rows @ layer.filters.reshape(len(layer.filters), -1).astype(np.float64)
    weight = flat.reshape(layer.own.weights["weight"].shape).astype(np.float32)
    return {"weight": weight, "bias": bias.astype(np.float32)}
