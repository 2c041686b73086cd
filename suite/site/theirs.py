"""What the papers report, table by table as printed there, and beside single figures of theirs what ours come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.leaderboard import Leaderboard, Table
from suite.published import Published, every_table
from suite.render_grids import NONE, Row, fraction
from suite.site.catalogue import Catalogue
from suite.site.tables import table_key

CAVEAT = (
    "Theirs was measured by the authors on victims, splits and devices of their own, and ours by this suite: what"
    " stands in one line measures the same thing under different circumstances, and is no repetition."
)


@dataclass(frozen=True, slots=True)
class _Match:
    """What of ours a figure of theirs stands beside: base names of defense and attack, and the metric.

    ``variant``: what the defense's short form ends in, None for any; of several, the row that leaks most counts.
    """

    defense: str
    attacks: tuple[str, ...]
    metric: str
    variant: str | None = None


def published_data(board: Leaderboard) -> dict[str, Any]:
    """Every published table once, and which of them, with which rows, stand beside each table of ours."""
    return {
        "caveat": CAVEAT,
        "tables": [_plain(one) for one in every_table()],
        "beside": [[_plain(one) for one in table.published] for table in board.tables],
    }


def compared(board: Leaderboard, found: Catalogue) -> Iterator[dict[str, Any]]:
    """Figures of theirs with ours of the same victim, data set, defense and kind of attack, where there are any."""
    rows = list(_figures())
    for place, table in enumerate(board.tables):
        for (victim, dataset), theirs, title, column, match in rows:
            if (_same(victim), _same(dataset)) == (_same(table.victim), _same(table.dataset)):
                ours = _ours(table, match)
                if ours is not None:
                    row, measure = ours
                    yield {
                        "table": place,
                        "paper": title,
                        "what": column,
                        "theirs": theirs,
                        "defense": row["defense"],
                        "attack": measure,
                        "metric": match.metric,
                        "ours": float(row[match.metric]),
                        "shown": fraction(row, match.metric).value,
                        "interval": fraction(row, match.metric).interval,
                        "records": list(found.of(table_key(table), row["defense"], measure)),
                    }


def _figures() -> Iterator[tuple[tuple[str, str], str, str, str, _Match]]:
    """Each published figure that something of ours measures: (victim, data set), figure, table, column, match."""
    for table in every_table():
        for values in table.rows:
            row = dict(zip(table.columns, values, strict=True))
            for column, match in _matches(table.name, row).items():
                if row[column]:
                    yield (row["victim"], row.get("dataset", "cifar100")), row[column], table.title, column, match


def _matches(name: str, row: Mapping[str, str]) -> Mapping[str, _Match]:
    if name == "cerias_gradient_mia":
        return {d: _Match(d, ("gradient",), "balanced_accuracy") for d in ("vanilla", "darknetz", "depthwise_quant")}
    if name == "teeslice_mia":
        hidden = {f"k{k}": _Match("darknetz", ("shadow",), "balanced_accuracy", f"k{k}") for k in range(1, 5)}
        return {"k0": _Match("vanilla", ("shadow",), "balanced_accuracy"), **hidden}
    if name == "teeslice_extraction":
        thieves = ("direct_use", "knockoff", "hybrid", "weight_recovery")
        names = {"no_shield": "vanilla", "black_box": "full_tee"}
        same = {d: d for d in ("darknetz", "serdab", "magnitude", "soter", "shadownet", "teeslice")}
        return {column: _Match(d, thieves, "accuracy") for column, d in {**names, **same}.items()}
    return {}


def _ours(table: Table, match: _Match) -> tuple[Row, str] | None:
    """Our row with the highest such figure, and the attack that got it; None if there is none."""
    frame = table.extraction if match.metric == "accuracy" else table.attacks
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    fitting = [row for row in rows if _fits(row, match) and fraction(row, match.metric).value != NONE]
    best = max(fitting, key=lambda row: float(row[match.metric]), default=None)
    return None if best is None else (best, str(best["attack"]))


def _fits(row: Row, match: _Match) -> bool:
    defense, attack = str(row["defense"]), str(row["attack"])
    base = defense == match.defense or defense.startswith(f"{match.defense}_")
    variant = match.variant is None or defense == f"{match.defense}_{match.variant}"
    return base and variant and any(attack == name or attack.startswith(f"{name}_") for name in match.attacks)


def _same(name: str) -> str:
    return name.replace("_", "")


def _plain(table: Published) -> dict[str, Any]:
    rows: Sequence[Sequence[str]] = table.rows
    return {
        "title": table.title,
        "source": table.source,
        "notes": list(table.notes),
        "columns": list(table.columns),
        "rows": [list(row) for row in rows],
    }
