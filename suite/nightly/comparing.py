"""One night against the last ones: what got worse or better beyond noise, and what changed without a cause.

Every figure of every cell is tested against the median of the nights before. The standard error of that difference has
two parts. *Within* a night: of leaks the paired difference on the same candidates (``suite.comparing``) where both
nights scored the same ones, else both intervals; of times both intervals. *Between* nights: the spread of the earlier
ones, by the median absolute deviation, so that one bad night among them does not hide the next, pooled over all cells
of the night for times, since three nights of one cell tell little. Student's t, with the degrees of freedom that this
spread has, makes a p-value of it; Holm's method (1979) holds the chance of any false alarm in a whole night under
``ALPHA``. A change below a figure's floor is none.

Counted figures have no noise, and neither have leaks that were made of the same things: where a record has the same
keys (victim, deployment, what the board was asked, attack, code) as one of an earlier night, any difference is
*unrepeatable* and named, whatever its size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from suite.comparing import Side, compare
from suite.estimate import Z95
from suite.metrics import MetricError
from suite.nightly.figures import Figure, Noise, figures
from suite.record import Record, RecordError, Scores
from suite.records import read_records, read_scores

ALPHA = 0.01
"""Chance of a false alarm in a night: about four nights in a year of them."""
NIGHTS = 7
SAME = 1e-9
PRIOR_SPREAD, PRIOR_FREEDOM = 0.05, 3.0
"""Of times, as a share: what nights are taken to differ by until there are enough to tell, and what that is worth."""
_MAD = 1.482602218505602
"""Makes a standard deviation of a median absolute deviation, for normal errors."""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of a cell that is not what it was. ``kind``: "regression", "improvement" or "unrepeatable".

    ``before`` and ``now`` as text with their intervals, ``p`` None where there is no noise to test against. ``nights``:
    how many it was compared with; ``reference``: the one of them in the middle, whose figure ``before`` is.
    """

    cell: str
    figure: str
    leakage: bool
    kind: str
    before: str
    now: str
    difference: float
    p: float | None
    nights: int
    reference: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a night says beside those before it. ``tests``: how many figures were compared with something."""

    nights: tuple[str, ...]
    tests: int
    changes: tuple[Change, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    problems: tuple[str, ...]

    def of(self, kind: str) -> list[Change]:
        """The changes of a kind, those in leakage first."""
        return sorted((c for c in self.changes if c.kind == kind), key=lambda c: (not c.leakage, c.cell, c.figure))

    @property
    def alarm(self) -> bool:
        """Whether somebody must look: a regression, or a leak that cannot be repeated."""
        return bool(self.of("regression") or self.of("unrepeatable"))


@dataclass(frozen=True, slots=True)
class _Past:
    """A cell's figure in an earlier night."""

    night: Path
    record: Record
    figure: Figure


@dataclass(frozen=True, slots=True)
class _Test:
    """A figure with noise, and how surprising it is. ``difference`` on its scale, as ``se`` and ``p``."""

    record: Record
    now: Figure
    middle: _Past
    n: int
    difference: float
    p: float


def compare_nights(night: Path, before: Sequence[Path]) -> Verdict:
    """Compare the records of a night's folder with those of earlier ones, the newest first."""
    records, problems = read_records(night)
    history: dict[tuple[str, str, str], list[_Past]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for folder in before:
        old, damaged = read_records(folder)
        problems += damaged
        for record in old:
            seen.add((record.cell.profile, record.cell.id))
            for figure in figures(record):
                history[record.cell.profile, record.cell.id, figure.name].append(_Past(folder, record, figure))
    pairs = [
        (record, figure, past)
        for record in records
        for figure in figures(record)
        if (past := _comparable(record, history[record.cell.profile, record.cell.id, figure.name]))
    ]
    changes, tests = [], []
    spreads = _spreads(pairs)
    for record, figure, past in pairs:
        change = _without_noise(record, figure, past)
        if change is not None:
            changes.append(change)
        elif figure.noise is not Noise.COUNTED and not any(_same_keys(record, one.record) for one in past):
            tests.append(_tested(night, record, figure, past, spreads[figure.name], problems))
    changes += [_change(one) for one in holm(tests, ALPHA)]
    here = {(record.cell.profile, record.cell.id) for record in records}
    return Verdict(
        nights=tuple(folder.name for folder in before),
        tests=len(pairs),
        changes=tuple(changes),
        new=tuple(sorted(name for _, name in here - seen)) if before else (),
        gone=tuple(sorted(name for _, name in seen - here)),
        problems=tuple(dict.fromkeys(problems)),
    )


def _comparable(record: Record, past: Sequence[_Past]) -> list[_Past]:
    """Those whose board's clock ran in the same way."""
    mode = record.provenance.board.get("mode")
    return [one for one in past if one.record.provenance.board.get("mode") == mode]


def _same_keys(now: Record, before: Record) -> bool:
    """Whether both are made of the same things; times never are."""
    return now.latency is None and dict(now.provenance.keys) == dict(before.provenance.keys)


def _middle(past: Sequence[_Past]) -> _Past:
    """The median night, the newer one of two in the middle."""
    ranked = sorted(past, key=lambda one: (one.figure.scaled, one.night.name))
    return ranked[len(ranked) // 2]


def _without_noise(record: Record, now: Figure, past: Sequence[_Past]) -> Change | None:
    """A change of what cannot change by itself."""
    name = record.cell.id
    if alike := [one for one in past if _same_keys(record, one.record)]:
        if abs(now.value - alike[0].figure.value) <= SAME:
            return None
        kind, old = "unrepeatable", alike[0]
    elif now.noise is Noise.COUNTED:
        values = [one.figure.value for one in past]
        least, most = min(values), max(values)
        if now.value > most + now.floor * most:
            kind = "regression"
        elif now.value < least - now.floor * least:
            kind = "improvement"
        else:
            return None
        old = _middle(past)
    else:
        return None
    difference = now.value - old.figure.value
    return Change(
        name, now.name, now.leakage, kind, old.figure.shown, now.shown, difference, None, len(past), old.night.name
    )


def _spreads(pairs: Sequence[tuple[Record, Figure, Sequence[_Past]]]) -> Mapping[str, tuple[float, float]]:
    """Variance between nights by figure, pooled over cells, and its degrees of freedom; of times with a prior.

    Of leaks it is taken over nights with different keys alone: equal keys give equal figures, which tells nothing.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    timed: dict[str, bool] = {}
    for _, figure, past in pairs:
        timed[figure.name] = figure.noise is Noise.TIMED
        values = [one.figure.scaled for one in past]
        if figure.noise is Noise.SAMPLED:
            values = [v for v, one in zip(values, past, strict=True) if not _same_keys(past[0].record, one.record)]
        if len(values) >= 2:
            deviation = _MAD * float(np.median(np.abs(np.array(values) - np.median(values))))
            found[figure.name].append((deviation**2, len(values) - 1.0))
    spreads = {}
    for name in timed:
        parts = [*found[name], *([(PRIOR_SPREAD**2, PRIOR_FREEDOM)] if timed[name] else [])]
        freedom = sum(f for _, f in parts)
        spreads[name] = (sum(v * f for v, f in parts) / freedom if freedom else 0.0, freedom)
    return spreads


def _tested(
    night: Path, record: Record, now: Figure, past: Sequence[_Past], spread: tuple[float, float], problems: list[str]
) -> _Test:
    middle = _middle(past)
    within = now.se**2 + middle.figure.se**2
    if now.noise is Noise.SAMPLED and (paired := _paired(night, record, now, middle, problems)) is not None:
        within = paired
    between = spread[0] * (1 + 1 / len(past))
    difference = now.scaled - middle.figure.scaled
    variance = within + between
    if variance == 0:
        p = 1.0 if difference == 0 else 0.0
    else:
        freedom = spread[1] * (variance / between) ** 2 if between else math.inf  # Satterthwaite (1946)
        p = 2 * float(student_t.sf(abs(difference) / math.sqrt(variance), freedom))
    return _Test(record, now, middle, len(past), difference, p)


def _paired(night: Path, record: Record, now: Figure, old: _Past, problems: list[str]) -> float | None:
    """Variance of a membership metric's difference on the same candidates; None where they are not the same."""
    if record.attack is None or record.task.splits_fingerprint != old.record.task.splits_fingerprint:
        return None
    folders = {id(record): night, id(old.record): old.night}

    def scores_of(one: Record) -> Scores:
        return read_scores(folders[id(one)], one)

    sides = [
        Side(one.cell.defense, one.cell.measure, one.threat.policy, {one.cell.seed: one})
        for one in (record, old.record)
    ]
    try:
        found = compare(sides[0], sides[1], now.name, scores_of).difference
    except (RecordError, MetricError) as error:
        problems.append(str(error))
        return None
    return None if found is None else ((found.high - found.low) / (2 * Z95)) ** 2


def holm(tests: Sequence[_Test], alpha: float) -> list[_Test]:
    """The tests that stand when the chance of any false one among all is held under ``alpha``, floors kept."""
    found = []
    for rank, test in enumerate(sorted(tests, key=lambda one: one.p)):
        if test.p > alpha / (len(tests) - rank):
            break
        floor = test.now.floor if test.now.noise is Noise.SAMPLED else math.log1p(test.now.floor)
        if abs(test.difference) > floor:
            found.append(test)
    return found


def _change(test: _Test) -> Change:
    kind = "regression" if test.difference > 0 else "improvement"
    difference = test.now.value - test.middle.figure.value
    return Change(
        test.record.cell.id, test.now.name, test.now.leakage, kind, test.middle.figure.shown, test.now.shown,
        difference, test.p, test.n, test.middle.night.name,
    )  # fmt: skip
