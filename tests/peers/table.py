"""Ours against theirs: who finds more members, by how much more than chance, and who takes longer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from peers.ours import Scored, counterpart
from peers.theirs import PEERS
from suite.estimate import Estimate
from suite.metrics import RESAMPLES, auc, paired_excess, tpr_at_fpr

RATE = 0.01
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """One attack's figures. ``tpr`` is None where there are too few non-members for the rate."""

    scored: Scored
    auc: Estimate
    tpr: Estimate | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence of the comparison; ``met``: whether it is what must be reached."""

    text: str
    met: bool


def judge(scored: Scored, is_member: Bools) -> Judged:
    """Figures with intervals, over the candidates that the attack scored."""
    truth = _truth(scored, is_member)
    return Judged(scored, auc(scored.scores, truth), tpr_at_fpr(scored.scores, truth, RATE))


def paired_tpr_excess(a: NDArray[np.float64], b: NDArray[np.float64], is_member: Bools, seed: int = 0) -> Estimate:
    """TPR at ``RATE`` of ``a`` minus that of ``b``, with a bootstrap interval over candidates, drawn for both alike."""
    members, others = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    rng = np.random.default_rng(seed)
    drawn = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        inside, outside = rng.choice(members, len(members)), rng.choice(others, len(others))
        drawn[i] = _tpr(a[inside], a[outside]) - _tpr(b[inside], b[outside])
    value = _tpr(a[members], a[others]) - _tpr(b[members], b[others])
    return Estimate.of_draws(value, drawn)


def _tpr(members: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    allowed = math.floor(RATE * len(others) + 1e-9)
    threshold = np.partition(others, len(others) - allowed - 1)[len(others) - allowed - 1]
    return float((members > threshold).mean())


def verdicts(ours: Sequence[Scored], theirs: Sequence[Scored], is_member: Bools) -> list[Verdict]:
    """What must be reached: neither figure of our best below the best of theirs, and the speed of like attacks."""
    found = []
    everything, (ours, whole) = ours, ([one for one in side if one.subset is None] for side in (ours, theirs))
    if ours and whole:
        mine, other = (max(side, key=lambda one: auc(one.scores, is_member).value) for side in (ours, whole))
        excess = paired_excess(mine.scores, other.scores, is_member)
        found.append(_not_below("AUC", mine, other, excess))
        if tpr_at_fpr(mine.scores, is_member, RATE) is not None:
            mine, other = (max(side, key=lambda one: _value(one, is_member)) for side in (ours, whole))
            found.append(
                _not_below("TPR at 1 % FPR", mine, other, paired_tpr_excess(mine.scores, other.scores, is_member))
            )
    for one in theirs:
        if one.subset is not None and ours:
            truth = is_member[one.subset]
            best = max(ours, key=lambda mine: auc(mine.scores, is_member).value)
            excess = paired_excess(best.scores[one.subset], one.scores, truth)
            found.append(_not_below(f"AUC on {len(truth)} candidates", best, one, excess))
    return found + [verdict for one in theirs if (verdict := _speed(one, everything, is_member))]


def _value(scored: Scored, is_member: Bools) -> float:
    found = tpr_at_fpr(scored.scores, is_member, RATE)
    assert found is not None
    return found.value


def _not_below(figure: str, mine: Scored, other: Scored, excess: Estimate) -> Verdict:
    met = excess.high >= 0
    word = "above" if excess.low > 0 else "not below" if met else "BELOW"
    return Verdict(f"{figure}: ours ({mine.attack}) is {word} theirs ({other.attack}), by {_signed(excess)}", met)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _speed(other: Scored, ours: Sequence[Scored], is_member: Bools) -> Verdict | None:
    peer = PEERS[other.attack]
    like = counterpart(peer.same)
    alike = [one for one in ours if like and one.attack == like.slug and (one.subset is None) == (other.subset is None)]
    if not alike:
        return None
    (mine,) = alike
    excess = paired_excess(mine.scores, other.scores, _truth(other, is_member))
    ratio = other.times.wall / mine.times.wall
    beside = _beside(other) / _beside(mine)
    met = excess.high >= 0 and (peer.least_speedup is None or ratio >= peer.least_speedup)
    goal = "" if peer.least_speedup is None else f" (the goal: {peer.least_speedup:g})"
    return Verdict(
        f"time: theirs ({other.attack}) takes {ratio:.1f} times{goal} as long as ours ({mine.attack});"
        f" {other.times.cpu / mine.times.cpu:.1f} in processor time, {beside:.1f} beside asking the model;"
        f" AUC {_signed(excess)}",
        met,
    )


def _beside(scored: Scored) -> float:
    return max(scored.times.wall - scored.times.asking, 1e-3)


def _truth(scored: Scored, is_member: Bools) -> Bools:
    return is_member if scored.subset is None else is_member[scored.subset]


def render(title: str, ours: Sequence[Scored], theirs: Sequence[Scored], is_member: Bools) -> str:
    """The table of one victim, best AUC first."""
    rows = []
    for side, scored in [("ours", one) for one in ours] + [("theirs", one) for one in theirs]:
        found = judge(scored, is_member)
        n = len(is_member) if scored.subset is None else len(scored.subset)
        what = PEERS[scored.attack].what if side == "theirs" else scored.attack
        tpr = "-" if found.tpr is None else str(found.tpr)
        rows.append((found.auc.value, [side, what, n, str(found.auc), tpr, *dataclasses.astuple(scored.times)]))
    rows.sort(key=lambda row: -row[0])
    heads = ["", "attack", "scored", "AUC", "TPR at 1 % FPR", "wall s", "CPU s", "asking s"]
    table = tabulate([row for _, row in rows], heads, tablefmt="github", floatfmt=".1f", disable_numparse=[3, 4])
    return f"{title}\n\n{table}"
