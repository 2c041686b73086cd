"""A table of the leaderboard as grids of text: what every printed format shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from suite.leaderboard import BLACK_BOX, PREDICTED_PI, Table
from suite.leaderboard_notes import LABELS
from suite.record import METRICS

Row = Mapping[str, Any]

NONE = "-"
"""Stands for what was not run or does not apply."""


@dataclass(frozen=True, slots=True)
class Text:
    """A cell: the figure, and its interval if it has one."""

    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A printed table. The first column names the rows; ``left``: columns of words, set flush left.

    A line break in a header is one where space is scarce, else a space.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    left: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    text: Callable[[Row], Text]
    words: bool = False


def leak_grid(table: Table) -> Grid:
    """What gets out of each defense, at the attack that gets most."""
    partly_hidden = table.defenses.tee_peak_bytes > 0
    alone = table.defenses.accuracy_without_tee_frac[partly_hidden].notna().any()
    columns = (
        _Column("defense", lambda row: Text(str(row["defense"])), words=True),
        _Column("answers", lambda row: Text(str(row["policy"])), words=True),
        _Column("accuracy", lambda row: fraction(row, "accuracy_frac")),
        *([_Column("without\nTEE", _alone)] if alone else []),
        _Column("best attack", lambda row: Text(_word(row["best_attack"])), words=True),
        *(_metric(name) for name in METRICS),
        _Column("AUC over\nfull_tee", _excess),
    )
    return _grid("Leak", columns, table.defenses)


def cost_grid(table: Table) -> Grid:
    """What each defense costs."""
    columns = (
        _Column("defense", lambda row: Text(str(row["defense"])), words=True),
        _Column("latency\nratio", lambda row: ratio(row, "latency_ratio")),
        _Column("query\nus", lambda row: Text(microseconds(row["protected_us"]))),
        _Column("REE\nus", lambda row: Text(microseconds(row["ree_us"]))),
        _Column("TEE\nus", lambda row: Text(microseconds(row["tee_us"]))),
        _Column("switch\nus", lambda row: Text(microseconds(row["switch_us"]))),
        _Column("switches", lambda row: Text(f"{row['switches_per_query']:,}")),
        _Column("to TEE", lambda row: Text(_bytes(row["bytes_to_tee"]))),
        _Column("from TEE", lambda row: Text(_bytes(row["bytes_from_tee"]))),
        _Column("TA peak MiB\n(plan / limit)", _ta_memory),
        _Column("REE\nMiB", lambda row: Text(_mib(row["ree_bytes"]))),
        _Column("FLOPs\nin TEE", lambda row: Text(f"{100 * float(row['tee_flops_frac']):.1f} %")),
        _Column("Pi 3B+ ms\n(predicted)", _pi),
    )
    return _grid("Cost a query", columns, table.defenses)


def attack_grid(table: Table) -> Grid:
    """Every attack on every defense; ``*`` marks the best of a row."""
    attacks = sorted(set(table.attacks.attack))
    cells = {(row["defense"], row["attack"]): row for row in _rows(table.attacks)}
    rows = []
    for defense in table.defenses.defense:
        texts = [Text(str(defense))]
        for attack in attacks:
            row = cells.get((defense, attack))
            if row is None:
                texts += [Text(NONE), Text(NONE)]
                continue
            shown = fraction(row, "auc")
            texts.append(Text(shown.value + ("*" if row["best"] else " "), shown.interval))
            texts.append(fraction(row, "balanced_accuracy"))
        rows.append(tuple(texts))
    headers = ["defense", *(f"{attack}\n{what}" for attack in attacks for what in ("AUC", "bal. acc."))]
    return Grid("All attacks", tuple(headers), tuple(rows))


def published_grids(table: Table) -> Iterable[tuple[Grid, str]]:
    """Each published table with its caption: source and what is known to be odd about it."""
    for theirs in table.published:
        rows = tuple(tuple(Text(cell or NONE) for cell in row) for row in theirs.rows)
        yield (
            Grid(f"Published (theirs): {theirs.title}", theirs.columns, rows, frozenset()),
            " ".join((f"Source: {theirs.source}.", *theirs.notes)),
        )


def _alone(row: Row) -> Text:
    value = row["accuracy_without_tee_frac"]
    return Text(NONE if _missing(value) else f"{value:.3f}")


def fraction(row: Row, name: str, sign: str = "") -> Text:
    """Three digits, and the interval without the noughts before the point."""
    if _missing(row[name]):
        return Text(NONE)
    low, high = (_short(float(row[f"{name}_{end}"]), sign) for end in ("low", "high"))
    gap = " " if sign else ""
    return Text(_signed_zero(f"{row[name]:{sign}.3f}"), f"{low}{gap}–{gap}{high}")


def ratio(row: Row, name: str) -> Text:
    """Two digits and interval."""
    if _missing(row[name]):
        return Text(NONE)
    return Text(f"{row[name]:.2f}", f"{row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}")


def microseconds(value: Any) -> str:
    """Three significant digits or whole microseconds, with thousands set apart."""
    number = float(value)
    if _missing(number):
        return NONE
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _grid(title: str, columns: tuple[_Column, ...], frame: pd.DataFrame) -> Grid:
    rows = tuple(tuple(column.text(row) for column in columns) for row in _rows(frame))
    words = frozenset(i for i, column in enumerate(columns) if column.words)
    return Grid(title, tuple(column.header for column in columns), rows, words)


def _metric(name: str) -> _Column:
    return _Column(LABELS[name].replace(" acc", "\nacc").replace(" at ", " at\n"), lambda row: fraction(row, name))


def _missing(value: Any) -> bool:
    return value is None or value != value


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _excess(row: Row) -> Text:
    if str(row["defense_spec"]).partition("[")[0] == BLACK_BOX:
        return Text("bound")
    return fraction(row, "excess_auc", sign="+")


def _pi(row: Row) -> Text:
    value, low, high = (float(row[f"{PREDICTED_PI}{end}"]) for end in ("", "_low", "_high"))
    return Text(f"{value:,.3g}", f"{low:,.3g}–{high:,.3g}") if value else Text(NONE)


def _ta_memory(row: Row) -> Text:
    if not row["tee_peak_bytes"] and not row["tee_planned_bytes"]:
        return Text(NONE)
    peak, plan, limit = (_mib(row[f"tee_{name}_bytes"]) for name in ("peak", "planned", "limit"))
    return Text(peak, f"{plan} / {limit.removesuffix('.00')}")


def _word(value: Any) -> str:
    return NONE if _missing(value) else str(value)


def _short(value: float, sign: str) -> str:
    return _signed_zero(f"{value:{sign}.3f}").replace("0.", ".", 1)


def _signed_zero(text: str) -> str:
    return "0.000" if text in ("+0.000", "-0.000") else text


def _bytes(value: Any) -> str:
    size = float(value)
    return f"{size:.0f} B" if size < 2**10 else f"{size / 2**10:,.1f} KiB"


def _mib(value: Any) -> str:
    return f"{float(value) / 2**20:,.2f}"
