"""The attacker who picks the best of several variants: as picked on what is scored, and as picked without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Estimate, over_seeds
from suite.metrics import auc
from suite.pairing import of_candidates
from suite.record import AttackScores, Record, RecordError, Scores

_HALVES = 0x4A


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The best of an attack's variants against one defense, by AUC.

    ``picked`` is the highest AUC of a variant on the scored candidates, ``variant`` which; it errs upwards, the more
    variants, the more. ``crossed``: the variant is picked on one half of the candidates and scored on the other, and
    the other way round: what the attacker has who must pick beforehand, on half as many candidates.
    """

    defense: str
    family: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    variant: str
    picked: Estimate
    crossed: Estimate


def worst_cases(records: Sequence[Record], scores_of: Callable[[Record], Scores]) -> list[WorstCase]:
    """One a defense and attack with several variants (an attack's name without its parameters), of one table.

    Seeds that not all variants have are left out.

    Raises:
        RecordError: scores that are missing, or of other candidates than another variant's.
    """
    families: dict[tuple[str, str], dict[str, dict[int, Record]]] = {}
    for record in records:
        if record.attack is not None:
            key = record.cell.defense, record.cell.measure_spec.partition("[")[0]
            families.setdefault(key, {}).setdefault(record.cell.measure, {})[record.cell.seed] = record
    found = []
    for (defense, family), variants in sorted(families.items()):
        seeds = tuple(sorted(set.intersection(*(set(by_seed) for by_seed in variants.values()))))
        if len(variants) > 1 and seeds:
            found.append(_worst(defense, family, variants, seeds, scores_of))
    return found


def _worst(
    defense: str,
    family: str,
    variants: Mapping[str, Mapping[int, Record]],
    seeds: tuple[int, ...],
    scores_of: Callable[[Record], Scores],
) -> WorstCase:
    raw = {seed: {name: _of_attack(variants[name][seed], scores_of) for name in sorted(variants)} for seed in seeds}
    means = {name: over_seeds([auc(raw[s][name].scores, raw[s][name].is_member) for s in seeds]) for name in variants}
    best = max(sorted(means), key=lambda name: means[name].value)
    crossed = over_seeds([cross_fitted(raw[seed], seed) for seed in seeds]).within(0.0, 1.0)
    return WorstCase(defense, family, tuple(sorted(variants)), seeds, best, means[best].within(0.0, 1.0), crossed)


def _of_attack(record: Record, scores_of: Callable[[Record], Scores]) -> AttackScores:
    scores = of_candidates(scores_of(record), record.cell.id)
    order = np.argsort(scores.candidates, kind="stable")
    return AttackScores(scores.scores[order], scores.is_member[order], scores.candidates[order])


def cross_fitted(variants: Mapping[str, AttackScores], seed: int) -> Estimate:
    """AUC on each half of the candidates of the variant that is best on the other half, averaged.

    Halves have as many members as non-members each; the interval is that of a mean of two independent figures (each of
    DeLong et al. 1988).

    Raises:
        RecordError: the variants are of different candidates.
    """
    first = next(iter(variants.values()))
    for name, one in variants.items():
        if not np.array_equal(one.candidates, first.candidates):
            raise RecordError(f"variant {name} was not scored on the same candidates as the others; run them again")
    halves = _halves(first.is_member, seed)
    found = []
    for mine, other in (halves, halves[::-1]):
        best = max(sorted(variants), key=lambda name: auc(*_at(variants[name], other)).value)  # noqa: B023
        found.append(auc(*_at(variants[best], mine)))
    below = math.hypot(*(e.value - e.low for e in found)) / 2
    above = math.hypot(*(e.high - e.value for e in found)) / 2
    value = (found[0].value + found[1].value) / 2
    return Estimate(value, value - below, value + above)


def _at(scores: AttackScores, at: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return scores.scores[at], scores.is_member[at]


def _halves(is_member: NDArray[np.bool_], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    draw = np.random.default_rng((_HALVES, seed))
    sides = [draw.permutation(np.flatnonzero(side)) for side in (is_member, ~is_member)]
    size = min(map(len, sides)) // 2
    first, second = (np.concatenate([side[k * size : (k + 1) * size] for side in sides]) for k in (0, 1))
    return first, second
