"""A figure with its uncertainty, and how the figures of several seeds become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95 % confidence interval, in the unit of the field that holds it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @classmethod
    def of_draws(cls, value: float, drawn: Sequence[float] | NDArray[np.float64]) -> Estimate:
        """``value`` with the middle 95 % of bootstrap draws, stretched where needed to hold the value itself."""
        low, high = np.quantile(drawn, (0.025, 0.975))
        return cls(value, min(value, float(low)), max(value, float(high)))

    def within(self, lowest: float, highest: float) -> Estimate:
        """The same with the interval cut to what the quantity can be, such as 0 to 1."""
        return Estimate(self.value, max(lowest, self.low), min(highest, self.high))


def wilson(successes: float, n: int) -> Estimate:
    """A proportion and its Wilson score interval (Wilson 1927), which keeps its width at 0 and 1."""
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds, its interval widened by the spread over seeds.

    Each seed is a victim of its own, trained and scored on its own split. With W the mean squared standard
    error within a seed and B the variance of the values over the S seeds, the mean has the variance (W + B) /
    S at most (B holds part of W already, so the interval errs on the wide side) and Student's t with (S -
    1)(1 + W / B)^2 degrees of freedom (Satterthwaite 1946). The two arms of the interval are treated apart.
    One seed stays as it is.
    """
    if len(estimates) == 1:
        return estimates[0]
    n = len(estimates)
    value = fmean(e.value for e in estimates)
    between = variance(e.value for e in estimates)

    def arm(ends: list[float]) -> float:
        within = fmean((end / Z95) ** 2 for end in ends)
        if between == 0:
            return Z95 * math.sqrt(within / n)
        freedom = (n - 1) * (1 + within / between) ** 2
        return float(student_t.ppf(0.975, freedom)) * math.sqrt((within + between) / n)

    below, above = ([e.value - e.low for e in estimates], [e.high - e.value for e in estimates])
    return Estimate(value, value - arm(below), value + arm(above))
