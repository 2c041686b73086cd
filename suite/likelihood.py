"""How a deployment's answer compares with those of models that know a candidate, and of models that do not.

The statistics of LiRA (Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022) and RMIA
(Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks", ICML 2024), on one signal a view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from suite.attack_model import Observation
from suite.policy import OutputPolicy, Outputs

Floats = NDArray[np.float64]
Signal = Callable[[Outputs, NDArray[np.int64], OutputPolicy], Floats]

_LEAST_SPREAD = 1e-3  # of log-odds: saturated models may all answer the same
_LEAST_OWN = 1e-3  # of a view's variance, its own: views that agree to the last digit are still views
_LEAST_PR = 1e-30  # of models that are certain: few of them may all give a class no probability at all
_PRIOR = 1.0  # models' worth of what holds for all candidates, in the rate of right answers for one


@dataclass(frozen=True, slots=True)
class Compared:
    """One signal of the deployment and of M reference models for V views of N candidates.

    ``own`` float64 [V, N]; ``others`` [M, V, N]; ``is_member`` bool [M, N]: who was trained on which.
    ``own_population`` [P] and ``others_population`` [M, P]: the same signal for images that no model knows.
    """

    own: Floats
    others: Floats
    is_member: NDArray[np.bool_]
    own_population: Floats
    others_population: Floats

    @classmethod
    def of(cls, observation: Observation, signal: Signal) -> Compared:
        """The signal of all answers of an observation that has references."""
        seen = observation
        assert seen.references is not None
        assert seen.views is not None
        assert seen.population is not None
        assert seen.population_labels is not None
        return cls(
            signal(seen.views, seen.labels, seen.policy),
            signal(seen.references.answers, seen.labels, seen.policy),
            seen.references.is_member,
            signal(seen.population, seen.population_labels, seen.policy),
            signal(seen.references.population, seen.population_labels, seen.policy),
        )

    def as_reference(self, model: int) -> Compared:
        """The same with a reference model in the deployment's place, as ``Observation.as_reference``."""
        kept = np.arange(len(self.others)) // 2 != model // 2
        return self.without(kept, self.others[model], self.others_population[model])

    def without(
        self, kept: NDArray[np.bool_], own: Floats | None = None, own_population: Floats | None = None
    ) -> Compared:
        """Only some of the models, and perhaps another deployment."""
        return Compared(
            self.own if own is None else own,
            self.others[kept],
            self.is_member[kept],
            self.own_population if own_population is None else own_population,
            self.others_population[kept],
        )

    def mean(self, inside: bool) -> Floats:
        """Mean [V, N] over the models that know a candidate, or do not."""
        chosen = self._chosen(inside)
        total: Floats = np.einsum("mvn,mn->vn", self.others, chosen)
        mean: Floats = total / np.maximum(chosen.sum(axis=0), 1.0)
        return mean

    def spread(self, inside: bool, per_sample: bool) -> Floats:
        """Standard deviation over these models: [V, N] of each candidate, or [V, 1] as all have in common.

        Where a candidate has one such model, what all have in common; where all have, the spread over candidates.
        """
        chosen, mean = self._chosen(inside), self.mean(inside)
        squares = np.einsum("mvn,mn->vn", (self.others - mean) ** 2, chosen)
        degrees = np.maximum(chosen.sum(axis=0) - 1.0, 0.0)
        if not degrees.any():
            overall: Floats = np.maximum(mean.std(axis=1, keepdims=True), _LEAST_SPREAD)
            return overall
        pooled: Floats = np.sqrt(squares.sum(axis=1, keepdims=True) / degrees.sum())
        if per_sample:
            pooled = np.where(degrees > 0, np.sqrt(squares / np.maximum(degrees, 1.0)), pooled)
        return np.maximum(pooled, _LEAST_SPREAD)

    def _chosen(self, inside: bool) -> Floats:
        return (self.is_member if inside else ~self.is_member).astype(np.float64)


def lira_online(compared: Compared, per_sample: bool) -> Floats:
    """The log-likelihood of own among models that know a candidate, less that among models that do not: [N].

    Carlini et al. 2022, algorithm 1, over all views at once (section VI.D).
    """
    known, unknown = (_log_density(compared, inside, per_sample) for inside in (True, False))
    return known - unknown


def lira_offline(compared: Compared, per_sample: bool) -> Floats:
    """-log Pr[a model that does not know a candidate scores above own]: [N].

    Carlini et al. 2022, equation 4, whose one-sided test 1 - Pr[Z > own] this is, on a scale that does not saturate.
    Several views are weighed as tells a rise that they have in common from chance best.
    """
    z = (compared.own - compared.mean(False)) / compared.spread(False, per_sample)
    weights = np.linalg.solve(_correlation(compared, False), np.ones(len(z)))
    surprise: Floats = -norm.logsf(weights @ z / np.sqrt(weights.sum()))
    return surprise


def _log_density(compared: Compared, inside: bool, per_sample: bool) -> Floats:
    """Of a bell over the views whose correlations all candidates have in common."""
    spread = compared.spread(inside, per_sample)
    z = (compared.own - compared.mean(inside)) / spread
    correlation = _correlation(compared, inside)
    squares = (z * np.linalg.solve(correlation, z)).sum(axis=0)
    constant = np.linalg.slogdet(correlation)[1] + len(z) * np.log(2 * np.pi)
    density: Floats = -0.5 * (squares + constant) - np.log(np.broadcast_to(spread, z.shape)).sum(axis=0)
    return density


def _correlation(compared: Compared, inside: bool) -> Floats:
    """Of the views, [V, V]: how models that vary around a candidate's mean vary in one view as in another."""
    apart = compared.others - compared.mean(inside)
    chosen = compared.is_member if inside else ~compared.is_member
    products: Floats = np.einsum("mvn,mwn,mn->vw", apart, apart, chosen.astype(np.float64), optimize=True)
    size = np.sqrt(np.maximum(np.diag(products), 1e-300))
    found = products / size[:, None] / size
    return (1 - _LEAST_OWN) * found + _LEAST_OWN * np.eye(len(found)) if found.any() else np.eye(len(found))


def hit_ratio_online(hits: Compared) -> Floats:
    """LiRA's ratio where a signal is 0 or 1 (right or wrong): of two coins instead of two bells. [V, N]."""
    known, unknown = _hit_rates(hits, True), _hit_rates(hits, False)
    return np.where(hits.own > 0.5, np.log(known / unknown), np.log((1.0 - known) / (1.0 - unknown)))


def hit_ratio_offline(hits: Compared) -> Floats:
    """-log Pr[a model that does not know it is right at least as often as own]: [V, N]."""
    return np.where(hits.own > 0.5, -np.log(_hit_rates(hits, False)), 0.0)


def _hit_rates(hits: Compared, inside: bool) -> Floats:
    """How often models are right [V, N], held off 0 and 1 by the rate of all candidates."""
    chosen = (hits.is_member if inside else ~hits.is_member).astype(np.float64)
    n = chosen.sum(axis=0)
    mean = hits.mean(inside)
    overall = np.clip(np.average(mean, axis=1, weights=n + 1e-9), 0.01, 0.99)[:, None]
    rates: Floats = (mean * n + _PRIOR * overall) / (n + _PRIOR)
    return rates


def rmia(compared: Compared, gamma: float, a: float | None) -> Floats:
    """How many of the population a candidate beats by a factor ``gamma``: [V, N] in [0, 1].

    Zarifzadeh et al. 2024, equations 1 to 3 and algorithm 1: Pr(x | deployment) / Pr(x), over the same of z. Signals
    are probabilities. Pr(x) is the mean of models that know x and that do not, or with ``a`` estimated from the latter
    alone, ((1 + a) Pr_OUT(x) + 1 - a) / 2; nobody knows z, so Pr(z) is the mean of all. Candidates that beat
    equally many are ordered by their ratio, by less than one of the population is worth.
    """
    out = compared.mean(False)
    pr_x = (compared.mean(True) + out) / 2 if a is None else ((1.0 + a) * out + 1.0 - a) / 2
    ratio_x = compared.own / np.maximum(pr_x, _LEAST_PR)
    ratio_z = np.sort(compared.own_population / np.maximum(compared.others_population.mean(axis=0), _LEAST_PR))
    beaten = np.searchsorted(ratio_z, ratio_x / gamma, side="right")
    return (beaten + 0.5 * ratio_x / (1.0 + ratio_x)) / (len(ratio_z) + 0.5)
