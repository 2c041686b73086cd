"""From timed micro-benchmarks to a cost a feature: non-negative least squares of relative errors, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

RESAMPLES = 200
_ENDS = (2.5, 97.5)
_SHORT = 0.25
"""Of the median time: errors of rows that are shorter count as if they took that long."""


class FitError(ValueError):
    """Rows from which no costs follow; says what is missing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: how often it pays for each feature, and microseconds. ``group``: rows that resample together."""

    name: str
    group: str
    counts: Mapping[str, float]
    measured_us: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Microseconds a unit, and the ends of the 95 % bootstrap interval."""

    us: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """``rates`` by feature; ``errors``: (predicted - measured) / measured of each row by its name.

    ``draws``: the costs of each resample, by feature. Costs that vary against each other are right only together.
    """

    rates: Mapping[str, Rate]
    errors: Mapping[str, float]
    draws: tuple[Mapping[str, float], ...]

    @property
    def mean_error(self) -> float:
        """The mean absolute relative error over the rows."""
        return float(np.mean(np.abs(list(self.errors.values()))))


def fit(rows: Sequence[Row], features: Collection[str], seed: int = 0, resamples: int = RESAMPLES) -> Fit:
    """The costs, 0 or more, that leave the least squares of relative errors.

    Intervals come from rows drawn again with replacement, each group by itself, so that no operator drops out.

    Raises:
        FitError: a measured time is not above 0, or no row has a feature of ``features``, or one has another.
    """
    names = list(features)
    for row in rows:
        if not (np.isfinite(row.measured_us) and row.measured_us > 0):
            raise FitError(f"{row.name} took {row.measured_us} us: a time is above 0")
        if odd := {name for name, n in row.counts.items() if n} - set(names):
            raise FitError(f"{row.name} pays for {min(odd)!r}, which is not to be fitted")
    if missing := [name for name in names if not any(row.counts.get(name) for row in rows)]:
        raise FitError(f"no measurement pays for {missing[0]!r}: its cost cannot be told")
    measured = np.array([row.measured_us for row in rows])
    counts = np.array([[row.counts.get(name, 0.0) for name in names] for row in rows])
    weights = 1 / np.maximum(measured, np.median(measured) * _SHORT)
    matrix, target = counts * weights[:, None], measured * weights
    found = _solve(matrix, target)
    drawn = np.array([_solve(matrix[chosen], target[chosen]) for chosen in _samples(rows, seed, resamples)]).reshape(
        -1, len(names)
    )
    ends = np.percentile(drawn, _ENDS, axis=0) if len(drawn) else np.array([found, found])
    rates = {
        name: Rate(float(found[i]), float(min(ends[0, i], found[i])), float(max(ends[1, i], found[i])))
        for i, name in enumerate(names)
    }
    errors = counts @ found / measured - 1
    draws = tuple(dict(zip(names, map(float, one), strict=True)) for one in drawn)
    return Fit(rates, {row.name: float(error) for row, error in zip(rows, errors, strict=True)}, draws)


def _solve(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of ``matrix @ x = target`` with x at least 0; columns are brought to one scale before."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(matrix / scale, target, maxiter=50 * matrix.shape[1])
    solved: NDArray[np.float64] = found / scale
    return solved


def _samples(rows: Sequence[Row], seed: int, resamples: int) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[row.group].append(index)
    draw = np.random.default_rng(seed)
    return [
        [int(i) for members in groups.values() for i in draw.choice(members, len(members))] for _ in range(resamples)
    ]
