"""Everything the site's first page shows, as plain data: tables, rows, records, and what the papers published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suite.leaderboard import Leaderboard, Table
from suite.record import Record
from suite.render_grids import NONE, fraction, ratio
from suite.site.catalogue import Catalogue, Key, key_of, shows_of
from suite.site.views import VIEWS, Cell, View, columns_of, rows_of

RECORD_COLUMNS = (
    {"field": "measure", "title": "attack or latency", "words": True},
    {"field": "goal", "title": "goal", "words": True},
    {"field": "policy", "title": "answers", "words": True},
    {"field": "seed", "title": "seed", "words": False},
    {"field": "figure", "title": "figure", "words": True},
    {"field": "value", "title": "value", "words": False},
)
_KEY = ("victim", "dataset", "profile", "board", "mode")


def headline(record: Record) -> tuple[str, str, Any]:
    """Of what came out, the figure to show for the whole cell: its field, its name, the estimate or None."""
    if record.latency is not None:
        return "latency_ratio", "latency ratio", record.latency.ratio
    if record.extraction is not None:
        last = record.extraction.points[-1]
        return "fidelity", f"fidelity at {last.budget:,} queries", last.fidelity
    if record.exposure is not None:
        return "most_exposure", "highest E of an open layer", record.exposure.most
    assert record.attack is not None
    return "auc", "AUC", record.attack.metrics.auc


def index_data(board: Leaderboard, found: Catalogue, extra_keys: Sequence[Key] = ()) -> dict[str, Any]:
    """What the scripts of the first page read. ``extra_keys``: of tables that only nights have.

    ``views``: a row is [table, defense, what is shown, answers, places of its records, cells]; ``records``: one a
    record, [table, defense, what is shown, address without ending, cells] with ``RECORD_COLUMNS``.
    """
    tables = [dict(zip(_KEY, table_key(table), strict=True)) | {"notes": list(table.notes)} for table in board.tables]
    known = {table_key(table): place for place, table in enumerate(board.tables)}
    for key in extra_keys:
        if key not in known:
            known[key] = len(known)
            tables.append(dict(zip(_KEY, key, strict=True)) | {"notes": []})
    return {
        "tables": tables,
        "views": [
            {
                "name": view.name,
                "title": view.title,
                "goal": view.goal,
                "about": view.about,
                "columns": columns_of(view),
                "rows": [row for place, table in enumerate(board.tables) for row in _rows(view, place, table, found)],
            }
            for view in VIEWS
        ],
        "record_columns": RECORD_COLUMNS,
        "records": [
            _record_row(known[key_of(entry.record)], entry.record, entry.address)
            for entry in found.entries
            if not entry.night
        ],
    }


def table_key(table: Table) -> Key:
    """What tells a table from the others."""
    return table.victim, table.dataset, table.profile, table.board, table.mode


def _rows(view: View, place: int, table: Table, found: Catalogue) -> list[list[Any]]:
    key = table_key(table)
    rows = []
    for row, cells in rows_of(view, table):
        places = found.of(key, row["defense"], _measure(view, row)) or found.of(key, row["defense"])
        policy = found.entries[places[0]].record.threat.policy
        rows.append([place, row["defense"], shows_of(found, places), policy, list(places), cells])
    return rows


def _measure(view: View, row: Mapping[str, Any]) -> str:
    """Whose records a row is made of."""
    field = {"leak": "best_attack", "attacks": "attack", "extraction": "attack", "cost": ""}.get(view.name, "measure")
    return str(row[field]) if field else "latency"


def _record_row(place: int, record: Record, address: str) -> list[Any]:
    cell = record.cell
    field, name, estimate = headline(record)
    shows = " + ".join(record.threat.shows)
    words = [[text, text] for text in (cell.measure, record.threat.goal, record.threat.policy)]
    cells: list[Cell] = [*words, [cell.seed, str(cell.seed)], [name, name], headline_cell(field, estimate)]
    return [place, cell.defense, shows, address.removesuffix(".html"), cells]


def headline_cell(field: str, estimate: Any) -> Cell:
    """The cell of a figure of ``headline``."""
    if estimate is None:
        return [None, NONE]
    row = {field: estimate.value, f"{field}_low": estimate.low, f"{field}_high": estimate.high}
    text = ratio(row, field) if field == "latency_ratio" else fraction(row, field)
    return [estimate.value, text.value, text.interval, estimate.low, estimate.high]
