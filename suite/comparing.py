"""Defenses of one table against one another: differences on the same candidates, with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from suite.estimate import Estimate, over_seeds
from suite.leaderboard_notes import LABELS
from suite.metrics import paired_excess
from suite.pairing import paired
from suite.record import METRICS, Record, RecordError, Scores
from suite.registry import did_you_mean
from suite.rescoring import RESAMPLES, resampled

ScoresOf = Callable[[Record], Scores]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Place = tuple[str, str, str, str]
"""Victim, data set, profile and board: what two defenses must have in common."""


@dataclass(frozen=True, slots=True)
class Side:
    """One defense of a table with the attack it is compared by; ``records`` by seed."""

    defense: str
    attack: str
    policy: str
    records: Mapping[int, Record]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ours`` minus ``theirs`` in one metric, over the seeds that both have. None: withheld, as ``reason`` says."""

    ours: Side
    theirs: Side
    seeds: tuple[int, ...]
    difference: Estimate | None
    reason: str = ""


def places(records: Iterable[Record]) -> dict[Place, list[Record]]:
    """Records of attacks by the table that they belong to."""
    found: dict[Place, list[Record]] = {}
    for record in records:
        if record.attack is not None:
            cell = record.cell
            found.setdefault((cell.victim, cell.dataset, cell.profile, cell.board), []).append(record)
    return found


def sides(records: Sequence[Record], metric: str, attack: str | None = None) -> list[Side]:
    """The defenses of one table, each with ``attack`` or with the one that does best by ``metric``, by name.

    Raises:
        RecordError: no defense was attacked by ``attack``.
    """
    by_defense: dict[str, dict[str, dict[int, Record]]] = {}
    for record in records:
        cell = record.cell
        by_defense.setdefault(cell.defense, {}).setdefault(cell.measure, {})[cell.seed] = record
    known = {name for attacks in by_defense.values() for name in attacks}
    if attack is not None and attack not in known:
        raise RecordError(f"no record of attack {attack!r}{did_you_mean(attack, known)}")
    found = []
    for defense, attacks in sorted(by_defense.items()):
        chosen = attack if attack is not None else _best(attacks, metric)
        if chosen in attacks:
            mine = attacks[chosen]
            found.append(Side(defense, chosen, next(iter(mine.values())).threat.policy, mine))
    return found


def _best(attacks: Mapping[str, Mapping[int, Record]], metric: str) -> str:
    """The attack with the highest mean; the AUC decides where the metric is withheld."""

    def mean(attack: str) -> tuple[float, float]:
        values = [
            [getattr(r.attack.metrics, name) for r in attacks[attack].values() if r.attack] for name in (metric, "auc")
        ]
        first, second = (float(np.mean([e.value for e in v])) if v and None not in v else -1.0 for v in values)
        return first, second

    return max(sorted(attacks), key=mean)


def compare(ours: Side, theirs: Side, metric: str, scores_of: ScoresOf) -> Comparison:
    """The difference of two defenses in ``metric``, paired on the same candidates seed by seed.

    The AUC's interval is DeLong's for correlated curves; the others' are bootstraps over candidates, both defenses
    drawn the same. Each seed is one pair of victims' deployments; intervals over seeds as in ``over_seeds``.

    Raises:
        RecordError: no seed in common, or scores that are missing or of other candidates.
    """
    seeds = tuple(sorted(set(ours.records) & set(theirs.records)))
    if not seeds:
        raise RecordError(f"{ours.defense} and {theirs.defense} have no seed in common")
    found = []
    for seed in seeds:
        a, b = ours.records[seed], theirs.records[seed]
        for record in (a, b):
            assert record.attack is not None
            if metric in record.attack.metrics.withheld:
                return Comparison(ours, theirs, seeds, None, record.attack.metrics.withheld[metric])
        arrays = paired(scores_of(a), scores_of(b), f"{a.cell.id} and {b.cell.id}")
        found.append(_difference(metric, a, b, *arrays))
    return Comparison(ours, theirs, seeds, over_seeds(found).within(-1.0, 1.0))


def all_pairs(found: Sequence[Side], metric: str, scores_of: ScoresOf) -> list[Comparison]:
    """Every two defenses, in the order of ``found``."""
    return [compare(a, b, metric, scores_of) for a, b in itertools.combinations(found, 2)]


def _difference(metric: str, a: Record, b: Record, ours: Floats, theirs: Floats, is_member: Bools) -> Estimate:
    if metric == "auc":
        return paired_excess(ours, theirs, is_member)
    assert a.attack is not None
    assert b.attack is not None
    if metric == "balanced_accuracy":
        of_a, of_b = (partial(_right, threshold=r.attack.threshold) for r in (a, b) if r.attack)
    else:
        rate = {"tpr_at_fpr_1e2": 1e-2, "tpr_at_fpr_1e3": 1e-3}[metric]
        of_a = of_b = partial(_found, rate=rate)
    value = of_a(ours, is_member) - of_b(theirs, is_member)
    drawn = [
        of_a(ours[at], is_member[at]) - of_b(theirs[at], is_member[at])
        for at in resampled(is_member, a.cell.seed, RESAMPLES)
    ]
    return Estimate.of_draws(value, drawn)


def _right(scores: Floats, is_member: Bools, threshold: float) -> float:
    said = scores >= threshold
    return float((said[is_member].mean() + (~said[~is_member]).mean()) / 2)


def _found(scores: Floats, is_member: Bools, rate: float) -> float:
    """As ``tpr_at_fpr``, the value alone."""
    others = np.sort(scores[~is_member])[::-1]
    return float((scores[is_member] > others[int(np.floor(rate * len(others) + 1e-9))]).mean())


def label(metric: str) -> str:
    """The metric in words.

    Raises:
        RecordError: there is no such metric.
    """
    if metric not in METRICS:
        raise RecordError(f"no metric {metric!r}{did_you_mean(metric, METRICS)}")
    return LABELS[metric]
