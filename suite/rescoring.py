"""Metrics anew from stored raw scores: those of the records, to see that they are what they say, and others besides."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Estimate
from suite.exposure import layer_exposure
from suite.exposure_cells import losses_of, summary
from suite.extraction_metrics import extraction_points
from suite.metrics import MetricError, latency_metrics, membership_metrics, roc, tpr_at_fpr
from suite.record import (
    AttackScores,
    ExposureInfo,
    ExposureSamples,
    LatencySamples,
    Record,
    RecordError,
    Scores,
    StolenAnswers,
)
from suite.registry import PluginError, did_you_mean

Metric = Callable[[NDArray[np.float64], NDArray[np.bool_]], Estimate | None]
"""Scores float64 [N], higher means member, and the truth bool [N], to a figure; None where the data cannot show it."""

ScoresOf = Callable[[Record], Scores]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of a record that its raw scores do not give: dotted ``field``, as ``stored`` and as ``computed``."""

    cell: str
    field: str
    stored: object
    computed: object

    def __str__(self) -> str:
        return f"{self.cell}: {self.field} is {self.stored!r} in the record, its raw scores give {self.computed!r}"


def recompute(record: Record, scores: Scores) -> Any:
    """What came out of a cell, from its raw scores: ``MetricsInfo``, or what the record holds under its outcome.

    Raises:
        MetricError, ValueError: the scores are none that metrics are defined for.
        RecordError: they are of another kind than the record's.
    """
    seed = record.cell.seed
    if isinstance(scores, AttackScores) and record.attack is not None:
        return membership_metrics(scores.scores, scores.is_member, record.attack.threshold, seed=seed)
    if isinstance(scores, LatencySamples) and record.latency is not None:
        return latency_metrics(scores, record.cost.switches_per_query, seed=seed)
    if isinstance(scores, ExposureSamples) and record.exposure is not None:
        return _exposure(record.exposure, scores, seed)
    if isinstance(scores, StolenAnswers) and record.extraction is not None:
        return dataclasses.replace(
            record.extraction, points=extraction_points(scores), n_transferred=len(scores.changed)
        )
    raise RecordError(f"{record.cell.id}: {type(scores).__name__} are not the raw scores of its {record.outcome}")


def _exposure(stored: ExposureInfo, samples: ExposureSamples, seed: int) -> ExposureInfo:
    losses = losses_of(samples)
    if len(losses) != len(stored.layers):
        raise MetricError(f"losses of {len(losses)} layers for {len(stored.layers)} in the record")
    layers = []
    for layer, one in zip(stored.layers, losses, strict=True):
        new = layer_exposure(layer.number, layer.layer, layer.parameters, one, seed=seed)
        layers.append(
            dataclasses.replace(
                layer,
                exposure=new.exposure,
                withheld=new.withheld,
                private_gap_nats=new.private_gap,
                reference_gap_nats=new.reference_gap,
            )
        )
    return summary(layers, losses, seed=seed)


def differences(record: Record, scores: Scores) -> list[Difference]:
    """Every figure of the record that is not, to the last bit, what its raw scores give.

    Raises: as ``recompute``.
    """
    stored = (
        record.latency or record.exposure or record.extraction or (record.attack.metrics if record.attack else None)
    )
    ours, theirs = dict(_leaves(record.outcome, stored)), dict(_leaves(record.outcome, recompute(record, scores)))
    return [
        Difference(record.cell.id, field, ours.get(field), theirs.get(field))
        for field in dict.fromkeys([*ours, *theirs])
        if ours.get(field) != theirs.get(field)
    ]


def _leaves(place: str, value: object) -> Iterator[tuple[str, object]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(f"{place}.{field.name}", getattr(value, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _leaves(f"{place}[{index}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{place}.{key}", item)
    else:
        yield place, value


# ---- further metrics


def advantage(scores: NDArray[np.float64], is_member: NDArray[np.bool_]) -> Estimate:
    """The largest TPR - FPR of any threshold (Yeom et al. 2018, definition 4, for the best attacker).

    The threshold is picked on what is scored, so the figure errs upwards; a bootstrap over candidates for the interval.
    """

    def largest(at: NDArray[np.intp]) -> float:
        curve = roc(scores[at], is_member[at])
        return float((curve.tpr - curve.fpr).max())

    return Estimate.of_draws(largest(np.arange(len(scores))), [largest(at) for at in resampled(is_member)])


def tnr_at_fnr(scores: NDArray[np.float64], is_member: NDArray[np.bool_], rate: float) -> Estimate | None:
    """The most non-members that are told to be none while at most a share ``rate`` of the members is missed."""
    return tpr_at_fpr(-scores, ~is_member, rate)


def resampled(is_member: NDArray[np.bool_], seed: int = 0, n: int = RESAMPLES) -> Iterator[NDArray[np.intp]]:
    """Positions of ``n`` bootstrap samples, members and non-members drawn apart, as many of each as there are."""
    draw = np.random.default_rng((0xB0, seed))
    sides = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    for _ in range(n):
        yield np.concatenate([draw.choice(side, len(side)) for side in sides])


METRICS: Mapping[str, Metric] = {
    "advantage": advantage,
    "tpr_at_fpr_1e1": partial(tpr_at_fpr, rate=1e-1),
    "tpr_at_fpr_1e4": partial(tpr_at_fpr, rate=1e-4),
    "tnr_at_fnr_1e2": partial(tnr_at_fnr, rate=1e-2),
    "tnr_at_fnr_1e3": partial(tnr_at_fnr, rate=1e-3),
}
"""Metrics that no record holds, by name."""


def find_metric(text: str) -> tuple[str, Metric]:
    """A metric by its name here, as ``module:function`` or as ``file.py:function``, and the name of its column.

    Raises:
        PluginError: there is none; says what was looked for.
    """
    if text in METRICS:
        return text, METRICS[text]
    place, colon, name = text.rpartition(":")
    if not colon:
        raise PluginError(f"no metric is called {text!r}{did_you_mean(text, METRICS)}; or write module:function")
    try:
        module = _file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:
        raise PluginError(f"--metric {text}: {place} does not import: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise PluginError(f"--metric {text}: {place} has no function {name!r}")
    return name, found


def _file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"leakboard_metric_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def further(record: Record, scores: Scores, metrics: Iterable[tuple[str, Metric]]) -> dict[str, Estimate | None]:
    """Further metrics of an attack's cell; empty for other cells.

    Raises:
        PluginError: a metric gave something else than an Estimate or None; names it.
    """
    if not isinstance(scores, AttackScores):
        return {}
    found: dict[str, Estimate | None] = {}
    for name, metric in metrics:
        value: object = metric(scores.scores, scores.is_member)
        if not (value is None or isinstance(value, Estimate)):
            raise PluginError(
                f"metric {name} gave {type(value).__name__} for {record.cell.id}, not an Estimate or None"
            )
        found[name] = value
    return found
