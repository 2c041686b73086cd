"""The figures of a record that nights are compared by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from suite.estimate import Z95, Estimate
from suite.record import Record


class Noise(StrEnum):
    """What a figure varies by from night to night while nothing has changed."""

    SAMPLED = "sampled"
    """Not at all where it was made of the same things (same keys); else as candidates drawn anew."""
    TIMED = "timed"
    """By what the board's clock measures: judged on a logarithmic scale."""
    COUNTED = "counted"
    """Not at all."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a cell; more is worse for all of them. ``se``: its standard error, on ``Noise``'s scale."""

    name: str
    leakage: bool
    noise: Noise
    value: float
    se: float
    shown: str
    floor: float
    """Changes below that mean nothing to anybody: absolute where sampled, else a share of the figure."""

    @property
    def scaled(self) -> float:
        """The value on the scale that it is judged on."""
        return math.log(self.value) if self.noise is Noise.TIMED else self.value


def figures(record: Record) -> Iterator[Figure]:
    """All of one record; a withheld metric has none."""
    if record.attack is not None:
        metrics = record.attack.metrics
        for name in ("auc", "tpr_at_fpr_1e2"):
            if (found := getattr(metrics, name)) is not None:
                yield _sampled(name, found)
    if record.extraction is not None:
        for point in record.extraction.points:
            yield _sampled(f"fidelity at {point.budget} queries", point.fidelity)
    if record.exposure is not None and record.exposure.most is not None:
        yield _sampled("most exposure", record.exposure.most)
    if record.latency is not None:
        yield from _timed("latency ratio", record.latency.ratio)
        cost = record.cost
        yield _counted("bytes across the boundary", cost.bytes_to_tee + cost.bytes_from_tee, 0.0)
        yield _counted("switches per query", cost.switches_per_query, 0.0)
        yield _counted("TEE peak bytes", cost.tee_peak_bytes, 0.01)
    if record.energy is not None and record.energy.source == "measured":
        yield from _timed("energy per query, uJ", record.energy.per_query_uj)


def _sampled(name: str, found: Estimate) -> Figure:
    se = (found.high - found.low) / (2 * Z95)
    return Figure(name, True, Noise.SAMPLED, found.value, se, str(found), 0.01)


def _timed(name: str, found: Estimate) -> Iterator[Figure]:
    if found.low > 0:  # else it says nothing: an energy that the meter cannot tell from none
        se = (math.log(found.high) - math.log(found.low)) / (2 * Z95)
        yield Figure(name, False, Noise.TIMED, found.value, se, str(found), 0.02)


def _counted(name: str, count: int, floor: float) -> Figure:
    return Figure(name, False, Noise.COUNTED, float(count), 0.0, f"{count:,}", floor)
