"""What an attacker reads off a deployment's open layers, and the same off its reference models.

For each open layer and candidate: norms of gradients, of activations and of the signals that come back, as
``suite.graph.per_sample`` has them. Where hidden layers make the answer, the signal comes back through a surrogate of
them, or through themselves on a device that trains; where the TEE hands activations out, the layers behind it are read
from these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device.board import TeeOutOfMemory
from device.training import TrainOptions
from suite.attack_model import ReferenceModel
from suite.exposed import with_weights
from suite.graph.export import export_graph
from suite.graph.ir import Graph
from suite.graph.parse import FileSegment
from suite.graph.partition import World
from suite.graph.per_sample import SIGNALS, per_sample, per_sample_behind
from suite.graph.surrogate import (
    Fit,
    activations,
    fit_answers,
    head_of,
    read_out,
    rest_of,
    with_random,
    with_small_maps,
)
from suite.model import LabelledImages, View
from suite.open_layers import Exposed, exposed_in
from suite.policy import Outputs
from suite.provenance import hash_arrays
from suite.view import AdversaryView

Floats = NDArray[np.float64]

_LEAST = 1e-30
_VANISHED = 1e-9
"""Of a gradient's norm: below it float32 has lost most digits of the 1 - p that it comes from."""

_TRAINED_AT_ONCE = 16
_SCALED = [SIGNALS.index(signal) for signal in ("weight", "bias", "signal")]
"""Signals that a loss's scale multiplies."""

_INPUTS = ("input", "fed")
_SHIFTED = ("fed", "active", "radial")
"""Signals on a linear scale: shares, and the cosine between gradient and weight; the others are norms."""


@dataclass(frozen=True, slots=True)
class Reading:
    """``own`` float64 [N, F]: what the deployment shows of N candidates; ``others`` [M, N, F]: M reference models."""

    own: Floats
    others: Floats


@dataclass(frozen=True, slots=True)
class Tail:
    """How a surrogate of hidden layers is made.

    ``kind``: ``linear``, a read-out of what the open layers make, or ``same``, layers like the hidden ones.
    """

    kind: str
    fit: Fit

    def about(self) -> dict[str, object]:
        """Everything, as JSON can say it."""
        return {"kind": self.kind, **dataclasses.asdict(self.fit)}


def read_layers(view: AdversaryView, n_models: int, tail: Tail) -> Reading | None:
    """Read the open layers of a deployment and of the first ``n_models`` reference models; None if nothing is open."""
    if not view.shows(View.WEIGHTS):
        return None
    models = view.reference_models[:n_models]
    template = export_graph(models[0].load(), view.input_shape, softmax=True)
    exposed = exposed_in(template, view.steps)
    readings = [
        _read_directly(view, models, template, exposed),
        _read_in_training(view, models, template, exposed) or _read_by_surrogate(view, models, template, exposed, tail),
    ]
    found = [reading for reading in readings if reading is not None]
    if not found:
        return None
    return Reading(
        np.concatenate([one.own for one in found], axis=1), np.concatenate([one.others for one in found], axis=2)
    )


# ---- what is read without a surrogate


def _read_directly(
    view: AdversaryView, models: tuple[ReferenceModel, ...], template: Graph, exposed: Exposed
) -> Reading | None:
    """Layers behind which nothing is hidden, and inputs of public layers that come out of the TEE."""
    at = {node.name: place for place, node in enumerate(template.parameter_nodes())}
    crossing = exposed.crossing if view.shows(View.BOUNDARY) else {}
    whole = exposed.answering if view.shows(View.BOUNDARY) or set(exposed.feeds.values()) == {""} else ()
    only_fed = [name for name in crossing if name not in whole]
    if not whole and not only_fed:
        return None
    columns = [(at[name], signal) for name in whole for signal in range(len(SIGNALS))]
    columns += [(at[name], SIGNALS.index(signal)) for name in only_fed for signal in _INPUTS]
    places, signals = (list(part) for part in zip(*columns, strict=True))
    others = [_all_layers(model, template, view.candidates).layers[:, places, signals] for model in models]
    own = _own(view, exposed, whole, [crossing[name] for name in only_fed])
    kinds = [SIGNALS[signal] for signal in signals]
    return Reading(own, np.stack(others)) if kinds else None


@dataclass(frozen=True, slots=True)
class _Layers:
    """Features [N, L, len(SIGNALS)] of every layer of a reference model, and the scale [N] that gradients lack."""

    layers: Floats
    scale: Floats


def _all_layers(model: ReferenceModel, template: Graph, candidates: LabelledImages) -> _Layers:
    """The same for all deployments."""

    def make() -> Mapping[str, NDArray[np.float64]]:
        graph = export_graph(model.load(), template.shapes[template.inputs[0]], softmax=True)
        told = per_sample(graph, {graph.inputs[0]: candidates.images}, candidates.labels)
        return {"layers": _features(told.layers), "scale": told.scale}

    kept = model.remember("all layers", {}, make)
    return _Layers(np.asarray(kept["layers"], np.float64), np.asarray(kept["scale"], np.float64))


def _own(view: AdversaryView, exposed: Exposed, whole: tuple[str, ...], only_fed: list[str]) -> Floats:
    """The deployment's columns [N, F], in the order of ``_read_directly``."""
    images, labels = view.candidates.images, view.candidates.labels
    parts = []
    crossed = only_fed or any(exposed.feeds.values())
    size = 64
    batches = view.crossings(images, size) if crossed else ({} for _ in range(0, len(images), size))
    for start, boundary in zip(range(0, len(images), size), batches, strict=True):
        part = images[start : start + size]
        pieces = []
        if whole and exposed.last is not None:
            given = {tensor: boundary[name] if name else part for tensor, name in exposed.feeds.items()}
            layers = _features(per_sample(exposed.last, given, labels[start : start + size]).layers)
            pieces.append(layers.reshape(len(part), -1))
        for name in only_fed:
            flat = boundary[name].reshape(len(part), -1).astype(np.float64)
            pieces += [_log(np.linalg.norm(flat, axis=1))[:, None], (flat > 0).mean(axis=1)[:, None]]
        parts.append(np.concatenate(pieces, axis=1))
    return np.concatenate(parts)


# ---- what is read while the device trains


def _read_in_training(
    view: AdversaryView, models: tuple[ReferenceModel, ...], template: Graph, exposed: Exposed
) -> Reading | None:
    """The layers between the image and the first hidden one, by the gradients that the TEE hands back to them.

    Steps on the candidates that change no weight. A board computes in float32, where a sure model's gradients vanish:
    sizes end at a floor, of reference models as well.
    """
    layers = tuple(name for name in exposed.head if name not in exposed.answering)
    first = view.steps[0].graph
    if not layers or first is None or not view.shows(View.GRADIENTS):
        return None
    own_names = tuple(exposed.weights[name].name for name in layers)
    if not {node.name for node in first.parameter_nodes()}.issuperset(own_names):
        return None
    back = _handed_back(view.steps, frozenset(first.outputs))
    images, labels = view.candidates.images, view.candidates.labels
    try:
        training = view.train(TrainOptions(learning_rate=0.0))
    except TeeOutOfMemory:
        return None  # it may train, and cannot
    rows = []
    for start in range(0, len(images), _TRAINED_AT_ONCE):
        part = images[start : start + _TRAINED_AT_ONCE]
        step = training.step(part, labels[start : start + _TRAINED_AT_ONCE], public=False)
        signals = {tensor: sum((step.boundary[name] for name in names[1:]), step.boundary[names[0]])
                   for tensor, names in back.items()}  # fmt: skip
        rows.append(_features(per_sample_behind(first, {first.inputs[0]: part}, signals, own_names)))
    places = [place for place, node in enumerate(template.parameter_nodes()) if node.name in layers]
    others = []
    for model in models:
        told = _all_layers(model, template, view.candidates)
        whole = told.layers[:, places]
        whole[..., _SCALED] += _log(told.scale)[:, None, None]
        others.append(_floored(whole).reshape(len(images), -1))
    return Reading(_floored(np.concatenate(rows)).reshape(len(images), -1), np.stack(others))


def _handed_back(steps: Sequence[FileSegment], made: frozenset[str]) -> dict[str, list[str]]:
    """Of each tensor that the first step makes: the names, in a boundary, under which the TEE takes it."""
    found: dict[str, list[str]] = {}
    for i, step in enumerate(steps):
        for j, tensor in enumerate(step.inputs):
            if step.world is World.TEE and tensor in made:
                found.setdefault(tensor, []).append(f"step{i}.in{j}")
    return found


def _floored(features: Floats) -> Floats:
    found = features.copy()
    found[..., _SCALED] = np.maximum(found[..., _SCALED], np.log(_VANISHED))
    return found


# ---- what is read through a surrogate


def _read_by_surrogate(
    view: AdversaryView, models: tuple[ReferenceModel, ...], template: Graph, exposed: Exposed, tail: Tail
) -> Reading | None:
    """The layers between the image and the first hidden one."""
    layers = tuple(name for name in exposed.head if name not in exposed.answering)
    if not layers:
        return None
    seen, people = view.observation(), view.auxiliary
    assert seen.population is not None
    assert seen.references is not None
    asked = LabelledImages(people.images[: len(seen.population)], people.labels[: len(seen.population)])
    given = np.concatenate([view.candidates.images, asked.images])
    kept = exposed.weights if tail.kind == "same" else {name: exposed.weights[name] for name in layers}
    about = {"layers": list(layers), "kept": sorted(kept), "policy": str(view.policy), "tail": tail.about()}
    about["asked"] = hash_arrays([asked.images])

    def features(graph: Graph, answers: Outputs, population: Outputs) -> Floats:
        wanted = _as_probabilities(np.concatenate([answers, population]), view.n_classes)
        whole = _with_surrogate(graph, layers, frozenset(kept), given, wanted, tail)
        told = per_sample(whole, {whole.inputs[0]: view.candidates.images}, view.candidates.labels, layers)
        flat = _features(told.layers).reshape(len(told.loss), -1)
        return np.column_stack([flat, _log(told.loss), _log(told.scale)])

    others = []
    for index, model in enumerate(models):

        def make(index: int = index, model: ReferenceModel = model) -> Mapping[str, NDArray[np.float64]]:
            assert seen.references is not None
            graph = export_graph(model.load(), view.input_shape, softmax=True)
            answers, population = seen.references.answers[index, 0], seen.references.population[index]
            return {"layers": features(graph, answers, population)}

        others.append(np.asarray(model.remember("head layers", about, make)["layers"], np.float64))
    own = features(
        with_weights(template, {name: node.weights for name, node in exposed.weights.items()}),
        seen.outputs,
        seen.population,
    )
    return Reading(own, np.stack(others))


def _with_surrogate(
    graph: Graph,
    layers: tuple[str, ...],
    kept: frozenset[str],
    images: NDArray[np.float32],
    answers: NDArray[np.float32],
    tail: Tail,
) -> Graph:
    """``graph`` with a surrogate behind ``layers``: only of these, and of ``kept``, are the weights looked at."""
    head = head_of(graph, layers)
    if tail.kind == "linear":
        head = with_small_maps(head)
        held = activations(head, images)
        rest, trained = read_out(held, answers.shape[1])
    else:
        held, rest = activations(head, images), rest_of(graph, head)
        trained = frozenset(node.name for node in rest.parameter_nodes() if node.name not in kept)
        rest = with_random(rest, trained, held, tail.fit.seed)
    rest = fit_answers(rest, trained, held, answers, tail.fit)
    shapes = {**head.shapes, **rest.shapes}
    return Graph(head.inputs, rest.outputs, (*head.nodes, *rest.nodes), shapes)


def _as_probabilities(answers: Outputs, n_classes: int) -> NDArray[np.float32]:
    if answers.ndim == 2:
        return answers.astype(np.float32)
    return np.eye(n_classes, dtype=np.float32)[answers]


# ---- from norms to features


def _features(layers: Floats) -> Floats:
    """Norms on a logarithmic scale; ``radial`` as the weight's part in the direction of the gradient."""
    found = layers.copy()
    of = {signal: place for place, signal in enumerate(SIGNALS)}
    found[..., of["radial"]] /= np.maximum(layers[..., of["weight"]], _LEAST)
    for signal in SIGNALS:
        if signal not in _SHIFTED:
            found[..., of[signal]] = _log(layers[..., of[signal]])
    return found


def _log(values: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(values, _LEAST))
    return logs
