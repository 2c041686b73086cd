"""The Performance Emulator's contract: from the segments of a deployment to features, from features to time.

A prediction is linear: the time of a query is the sum over features (what the kernels of each world do and how often,
see ``suite.workload``; kernel calls; switches; bytes that cross) of the feature times its cost. So a calibration is a
regression: it times micro-benchmarks on a board, computes ``features`` of each, and fits one cost a feature.

What a calibration must provide for a board: ``costs_us``, microseconds a unit for every name that ``FEATURES`` lists
(a feature without a cost is refused, none is guessed), and a ``source`` that says how they were found. It may add
intervals of its own; ``predict`` needs the costs alone.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

from suite import workload, workload_i8, workload_slices
from suite.graph.fuse import fuse
from suite.graph.ir import Graph, Node
from suite.graph.partition import Segment, World
from suite.graph.planner import MemoryPlan, plan_memory
from suite.registry import did_you_mean

SWITCHES, CROSSING_BYTES, QUERIES, IMAGE = "switches", "crossing.bytes", "queries", "ree.image.bytes"
CALLS, HANDOVERS, CLASSES = "calls", "handovers", "classes"
WORK = (*workload.COUNTS, *workload_i8.COUNTS, *workload_slices.COUNTS, CALLS, HANDOVERS, CLASSES)
"""What is counted in each world."""

FEATURES = (*(f"{world}.{what}" for world in World for what in WORK), IMAGE, SWITCHES, CROSSING_BYTES, QUERIES)
"""Every feature: ``ree.conv2d.fma`` ... ``tee.handovers``; calls into the TEE, as far as an empty one costs;
bytes that cross the boundary in either direction; and queries (always 1: what a query costs besides). ``handovers``:
what a call into the TEE costs either world beyond an empty one. ``classes``: numbers in the answer, in the world that
gives it, and in the normal world in any case."""


class PredictionError(ValueError):
    """A board without costs, or costs that leave a feature out; names it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a query is foretold to take: microseconds on the board's clock, and the TA's memory.

    ``switch_us``: calls into the TEE and the copies over the boundary; ``total_us`` is the sum of all parts.
    """

    total_us: float
    ree_us: float
    tee_us: float
    switch_us: float
    switches: int
    crossing_bytes: int
    memory: MemoryPlan


class BoardModel(Protocol):
    """Predicts a deployment's cost on one board."""

    @property
    def name(self) -> str:
        """The board."""

    @property
    def source(self) -> str:
        """Where the figures come from: measured, fitted, published or assumed, and on what."""

    def predict(self, segments: Sequence[Segment]) -> Prediction:
        """Time and memory of one query through ``segments``."""


def features(segments: Sequence[Segment]) -> Mapping[str, float]:
    """How often a query through ``segments`` pays for each of ``FEATURES``; all are present, most may be 0."""
    found: dict[str, float] = dict.fromkeys(FEATURES, 0)
    found[QUERIES] = 1
    first, last = segments[0].graph, segments[-1]
    found[IMAGE] = sum(first.bytes_of(tensor) for tensor in first.inputs)
    for world in {World.REE, last.world}:
        found[f"{world}.{CLASSES}"] = math.prod(last.graph.shapes[last.graph.outputs[0]])
    streamed = workload_slices.work(segments)
    found[SWITCHES] += streamed[workload_slices.FED]
    found |= {f"{world}.{what}": n for what, n in streamed.items() for world in World}
    for segment in segments:
        graph, world = segment.graph, segment.world
        if world is World.TEE:
            found[SWITCHES] += 1
            for side in World:
                found[f"{side}.{HANDOVERS}"] += 1
            found[CROSSING_BYTES] += sum(graph.bytes_of(tensor) for tensor in (*graph.inputs, *graph.outputs))
        for step in fuse(graph):
            node = step.node
            for what, n in _work(graph, node).items():
                found[f"{world}.{what}"] += n
            found[f"{world}.{CALLS}"] += 1
    return found


def _work(graph: Graph, node: Node) -> Mapping[str, float]:
    int8 = any(tensor in graph.scales for tensor in (*node.inputs, node.output))
    return workload_i8.work(graph, node) if int8 else workload.work(graph, node)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A board's costs, microseconds a unit by feature.

    Raises:
        PredictionError: a feature has no cost, a cost has no feature, or one is negative or not finite.
    """

    name: str
    source: str
    costs_us: Mapping[str, float]

    def __post_init__(self) -> None:
        if odd := sorted(set(FEATURES) ^ set(self.costs_us)):
            raise PredictionError(f"board model {self.name!r} must give one cost for each feature; see {odd[0]!r}")
        for feature, cost in self.costs_us.items():
            if not (math.isfinite(cost) and cost >= 0):
                raise PredictionError(f"board model {self.name!r}: the cost of {feature!r} is {cost}, not 0 or more")

    def predict(self, segments: Sequence[Segment]) -> Prediction:
        """Time and memory of one query through ``segments``."""
        found = features(segments)

        def spent(*prefixes: str) -> float:
            return sum(self.costs_us[name] * n for name, n in found.items() if name.startswith(prefixes))

        ree, tee, switch = spent("ree.", QUERIES), spent("tee."), spent(SWITCHES, CROSSING_BYTES)
        return Prediction(
            total_us=ree + tee + switch,
            ree_us=ree,
            tee_us=tee,
            switch_us=switch,
            switches=int(found[SWITCHES]),
            crossing_bytes=int(found[CROSSING_BYTES]),
            memory=plan_memory(segments),
        )


COMMITTED = {"qemu": "reference_data/qemu_costs.json"}
"""Calibrations that come with the suite, by board. What depends on a board's costs has the file in its key."""


@functools.cache
def board_model(name: str) -> BoardModel:
    """The model of a board by its name, from the calibration that comes with the suite.

    Raises:
        PredictionError: there is none; says which come close.
    """
    return model_of(committed(name), COMMITTED.get(name, ""))


def committed(name: str) -> Mapping[str, Any]:
    """The content of the calibration of a board that comes with the suite.

    Raises:
        PredictionError: there is none; says which come close.
    """
    if name not in COMMITTED:
        raise PredictionError(f"no costs of board {name!r}{did_you_mean(name, COMMITTED)}")
    content: Mapping[str, Any] = json.loads((files("suite") / COMMITTED[name]).read_text(encoding="utf-8"))
    return content


def model_of(content: Mapping[str, Any], where: str) -> LinearModel:
    """The model in a calibration file's content; ``where`` is the file, for messages.

    Raises:
        PredictionError: it is none, or of another version of the features.
    """
    try:
        costs = {name: float(rate["us"]) for name, rate in content["rates"].items()}
        return LinearModel(str(content["board"]), str(content["source"]), costs)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PredictionError(f"{where} is no calibration that this version reads: {error}") from error
