"""From records to tables: one a victim, data set, profile, board and the board's mode, with a row a defense."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from suite import published_pi
from suite.estimate import Estimate, over_seeds, wilson
from suite.exposure_frames import exposure_frames
from suite.leaderboard_extraction import extraction_frame
from suite.leaderboard_notes import table_notes
from suite.metrics import MetricError, paired_excess
from suite.pairing import paired
from suite.published import Published, published
from suite.record import METRICS, Record, RecordError, Scores
from suite.spread import columns, spread

ScoresOf = Callable[[Record], Scores]
_Key = tuple[str, str, str, str, str]

WHITE_BOX, BLACK_BOX = "vanilla", "full_tee"
"""The two bounds of every table."""

_COST_FIELDS = (
    "switches_per_query", "bytes_to_tee", "bytes_from_tee", "ree_bytes", "tee_peak_bytes",
    "tee_planned_bytes", "tee_limit_bytes", "shared_bytes", "tee_flops_frac", "ree_macs", "tee_macs", "int8_macs",
)  # fmt: skip
_ESTIMATES = ("accuracy_frac", *METRICS, "excess_auc", "latency_ratio")
PREDICTED_PI = "predicted_pi3bplus_ms"
"""Milliseconds of a query's multiply-accumulates on a Pi, from published figures (``suite.published_pi``)."""
_TIMES = ("vanilla_us", "protected_us", "ree_us", "tee_us", "switch_us")

DEFENSE_COLUMNS = (
    "defense", "defense_spec", "policy", "n_seeds", "n_candidates", "best_attack",
    *(column for name in _ESTIMATES for column in (name, f"{name}_low", f"{name}_high")),
    "excess_over", "accuracy_loss_frac", "accuracy_without_tee_frac", *_TIMES, *_COST_FIELDS,
    PREDICTED_PI, f"{PREDICTED_PI}_low", f"{PREDICTED_PI}_high",
)  # fmt: skip
ATTACK_COLUMNS = (
    "defense", "attack", "policy", "n_seeds", "best",
    *(column for name in METRICS for column in (name, f"{name}_low", f"{name}_high", *columns(name))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """The leaderboard of one victim on one data set, at one scale, on one board in one mode.

    ``defenses`` has ``DEFENSE_COLUMNS``, a row a defense, the bounds first and last; ``attacks`` has
    ``ATTACK_COLUMNS``, a row a membership attack on a defense; ``extraction`` has ``EXTRACTION_COLUMNS``, a row an
    extraction, defense and budget. A figure that was not measured is NaN. Units are in the
    column names; a metric's ``_low`` and ``_high`` are the ends of its 95 % interval. ``exposure`` and ``layers`` are
    as in ``suite.exposure_frames``, empty where exposure was not measured. ``mode`` is how the board's
    clock runs, "" where its records do not say.
    """

    victim: str
    dataset: str
    profile: str
    board: str
    mode: str
    defenses: pd.DataFrame
    attacks: pd.DataFrame
    extraction: pd.DataFrame
    notes: tuple[str, ...]
    published: tuple[Published, ...]
    exposure: pd.DataFrame = dataclasses.field(default_factory=lambda: exposure_frames(())[0])
    layers: pd.DataFrame = dataclasses.field(default_factory=lambda: exposure_frames(())[1])

    @property
    def key(self) -> Mapping[str, str]:
        """What tells this table from the others."""
        names = ("victim", "dataset", "profile", "board", "mode")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """All tables, the cells that were not run with their reasons, and the files that could not be used."""

    tables: tuple[Table, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def leaderboard(
    records: Iterable[Record],
    scores_of: ScoresOf,
    *,
    excluded: Iterable[tuple[str, str]] = (),
    problems: Iterable[str] = (),
) -> Leaderboard:
    """Build every table that ``records`` give.

    ``scores_of`` fetches raw scores (``read_scores``), needed for differences between attacks on the same
    candidates; one that raises RecordError costs its row the excess, nothing else. ``excluded``: (cell id,
    reason) of what was not run; ``problems``: lines of ``read_records``.
    """
    groups: dict[_Key, list[Record]] = defaultdict(list)
    for record in records:
        cell, mode = record.cell, str(record.provenance.board.get("mode", ""))
        groups[cell.victim, cell.dataset, cell.profile, cell.board, mode].append(record)
    found = list(problems)
    tables = tuple(_table(key, groups[key], scores_of, found) for key in sorted(groups))
    return Leaderboard(tables, tuple(excluded), tuple(dict.fromkeys(found)))


@dataclass(slots=True)
class _Row:
    """One defense of a table while it is put together; records by attack and seed, and the latency ones."""

    defense: str
    records: list[Record]
    attacks: dict[str, list[Record]] = dataclasses.field(default_factory=dict)
    timed: list[Record] = dataclasses.field(default_factory=list)
    exposed: list[Record] = dataclasses.field(default_factory=list)
    best: str | None = None

    def __post_init__(self) -> None:
        for record in self.records:
            if record.exposure is not None:
                self.exposed.append(record)
            elif record.latency is not None:
                self.timed.append(record)
            elif record.attack is not None:
                self.attacks.setdefault(record.cell.measure, []).append(record)
        ranked = {a: e.value for a in self.attacks if (e := self.metric(a, "auc")) is not None}
        self.best = max(sorted(ranked), key=ranked.__getitem__, default=None)

    @property
    def base(self) -> str:
        """The defense's name without parameters."""
        return self.records[0].cell.defense_spec.partition("[")[0]

    @property
    def policy(self) -> str:
        return self.records[0].threat.policy

    @property
    def auc(self) -> float:
        estimate = self.metric(self.best, "auc") if self.best else None
        return estimate.value if estimate else -1.0

    def metric(self, attack: str, name: str) -> Estimate | None:
        """Over seeds; None when any seed withholds it, since the others would stand for it."""
        found = self.by_seed(attack, name)
        return over_seeds([e for e in found if e is not None]) if found and None not in found else None

    def by_seed(self, attack: str, name: str) -> list[Estimate | None]:
        """A metric of each seed."""
        return [getattr(r.attack.metrics, name) for r in self.attacks[attack] if r.attack]


def _table(key: _Key, records: Sequence[Record], scores_of: ScoresOf, problems: list[str]) -> Table:
    by_defense: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.cell.seed, r.cell.id)):
        by_defense[record.cell.defense].append(record)
    place = {WHITE_BOX: 0, BLACK_BOX: 2}
    rows = sorted(
        (_Row(name, by_defense[name]) for name in by_defense),
        key=lambda row: (place.get(row.base, 1), -row.auc, row.defense),
    )
    boxes = {row.policy: row for row in rows if row.base == BLACK_BOX and row.best}
    defenses = pd.DataFrame(
        [_defense_row(row, boxes.get(row.policy), scores_of, problems) for row in rows],
        columns=DEFENSE_COLUMNS,
    )
    attacks = pd.DataFrame(
        [_attack_row(row, attack) for row in rows for attack in sorted(row.attacks)], columns=ATTACK_COLUMNS
    )
    extraction = extraction_frame([row.defense for row in rows], records, BLACK_BOX, scores_of, problems)
    notes = table_notes(records, defenses)
    exposed = exposure_frames([(row.defense, row.exposed) for row in rows])
    return Table(*key, defenses, attacks, extraction, notes, published(key[0], key[1]), *exposed)


def _defense_row(row: _Row, box: _Row | None, scores_of: ScoresOf, problems: list[str]) -> dict[str, object]:
    first = row.records[0]
    deployments = {r.cell.seed: r for r in row.records}.values()  # a seed's cells share one deployment
    cells: dict[str, object] = {
        "defense": row.defense,
        "defense_spec": first.cell.defense_spec,
        "policy": row.policy,
        "n_seeds": len(deployments),
        "n_candidates": first.task.n_members + first.task.n_nonmembers,
        "best_attack": row.best,
        "accuracy_loss_frac": _mean(r.utility.accuracy_loss_frac for r in deployments),
    }
    alone = [r.utility.accuracy_without_tee_frac for r in deployments]
    if None not in alone:
        cells["accuracy_without_tee_frac"] = _mean(accuracy for accuracy in alone if accuracy is not None)
    accuracy = [wilson(r.utility.accuracy_frac * r.task.n_test, r.task.n_test) for r in deployments]
    cells |= _spread("accuracy_frac", over_seeds(accuracy).within(0.0, 1.0))
    for name in METRICS if row.best else ():
        estimate = row.metric(row.best or "", name)
        cells |= _spread(name, estimate.within(0.0, 1.0) if estimate else None)
    if box and row.best and row.base != BLACK_BOX:
        excess = _excess(row, box, scores_of, problems)
        if excess:
            cells |= _spread("excess_auc", excess.within(-1.0, 1.0))
            cells["excess_over"] = f"{box.defense}/{box.best}"
    timed = [r.latency for r in row.timed if r.latency]
    if timed:
        cells |= _spread("latency_ratio", over_seeds([t.ratio for t in timed]))
        cells["vanilla_us"] = _mean(t.vanilla_us.median for t in timed)
        cells["protected_us"] = _mean(t.protected_us.median for t in timed)
        cells |= {name: _mean(getattr(t, name) for t in timed) for name in ("ree_us", "tee_us", "switch_us")}
    # Every cell of a deployment counts the same; where a session held more memory than another, the larger
    # figure.
    for name in _COST_FIELDS:
        cells[name] = max(getattr(r.cost, name) for r in row.records)
    predicted = published_pi.latency_s(first.cost.ree_macs, first.cost.tee_macs, first.cost.int8_macs).times(1e3)
    cells |= {
        PREDICTED_PI: predicted.value,
        f"{PREDICTED_PI}_low": predicted.low,
        f"{PREDICTED_PI}_high": predicted.high,
    }
    return cells


def _attack_row(row: _Row, attack: str) -> dict[str, object]:
    cells: dict[str, object] = {
        "defense": row.defense,
        "attack": attack,
        "policy": row.policy,
        "n_seeds": len({r.cell.seed for r in row.attacks[attack]}),
        "best": attack == row.best,
    }
    for name in METRICS:
        estimate = row.metric(attack, name)
        cells |= _spread(name, estimate.within(0.0, 1.0) if estimate else None)
        cells |= spread(name, row.by_seed(attack, name))
    return cells


def _excess(row: _Row, box: _Row, scores_of: ScoresOf, problems: list[str]) -> Estimate | None:
    """AUC of the row's best attack minus that of the best attack on the black box, seed by seed."""
    theirs = {r.cell.seed: r for r in box.attacks[box.best or ""]}
    found: list[Estimate] = []
    for record in row.attacks[row.best or ""]:
        other = theirs.get(record.cell.seed)
        if other is None:
            continue
        try:
            names = f"{record.cell.id} and {other.cell.id}"
            found.append(paired_excess(*paired(scores_of(record), scores_of(other), names)))
        except (RecordError, MetricError) as error:
            problems.append(str(error))
    return over_seeds(found) if found else None


def _spread(name: str, estimate: Estimate | None) -> dict[str, object]:
    if estimate is None:
        return {}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
