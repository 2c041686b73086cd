"""The site's leaderboards: the rows of ``suite.leaderboard`` as columns of figures, each with the text it is shown as.

Texts are made by the functions that make the terminal's, so both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from suite.leaderboard import PREDICTED_PI, Table
from suite.leaderboard_notes import LABELS
from suite.record import METRICS
from suite.render_grids import NONE, Grid, Row, Text, cost_grid, fraction, leak_grid

Cell = list[Any]
"""What a script gets of a cell: the value to sort by or None, the text, and if there is one the interval, low, high."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view. ``field``: of the leaderboard's frame, for sorting and figures; ``words``: no number.

    ``header``: of the terminal's grid whose text is taken; "" where ``text`` makes it. ``title`` is what the site says.
    """

    field: str
    title: str
    text: Callable[[Row], Text] | None = None
    header: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One of the site's leaderboards. ``goal``: what attackers are after; ``about``: what a row is."""

    name: str
    title: str
    goal: str
    about: str
    frame: Callable[[Table], pd.DataFrame]
    columns: tuple[Column, ...]
    grid: Callable[[Table], Grid] | None = None


def _word(name: str) -> Callable[[Row], Text]:
    return lambda row: Text(NONE if row[name] is None or row[name] != row[name] else str(row[name]))


def _words(name: str, title: str) -> Column:
    return Column(name, title, _word(name), words=True)


def _count(name: str, title: str) -> Column:
    return Column(name, title, lambda row: Text(NONE if row[name] != row[name] else f"{int(row[name]):,}"))


def _share(name: str, title: str, sign: str = "") -> Column:
    return Column(name, title, lambda row: fraction(row, name, sign))


_METRICS = tuple(_share(name, LABELS[name]) for name in METRICS)
_OPEN = Column("is_open", "lies open", lambda row: Text("yes" if row["is_open"] else "no"), words=True)

VIEWS = (
    View(
        "leak", "Membership", "membership", "a row a defense, at the attack that gets most out of it",
        lambda table: table.defenses[table.defenses.best_attack.notna()],
        (
            _words("policy", "answers"),
            Column("accuracy_frac", "accuracy", header="accuracy"),
            Column("accuracy_without_tee_frac", "without TEE", header="without\nTEE"),
            _words("best_attack", "best attack"),
            *_METRICS,
            Column("excess_auc", "AUC over full_tee", header="AUC over\nfull_tee"),
            _count("n_seeds", "seeds"),
        ),
        leak_grid,
    ),
    View(
        "attacks", "All attacks", "membership", "a row a membership attack on a defense",
        lambda table: table.attacks,
        (_words("policy", "answers"), _words("attack", "attack"), *_METRICS, _count("n_seeds", "seeds")),
    ),
    View(
        "extraction", "Extraction", "extraction", "a row an extraction, defense and query budget",
        lambda table: table.extraction,
        (
            _words("policy", "answers"),
            _words("attack", "attack"),
            _count("budget", "budget"),
            _count("n_queries", "queries made"),
            _share("fidelity", "fidelity"),
            _share("excess_fidelity", "fidelity over full_tee", "+"),
            _share("accuracy", "accuracy"),
            _share("transfer_pgd", "PGD transfer"),
            _share("transfer_fgsm", "FGSM transfer"),
            _count("n_seeds", "seeds"),
        ),
    ),
    View(
        "exposure", "Exposure", "exposure", "a row a defense: how exposed the layers are that it leaves open",
        lambda table: table.exposure,
        (
            _words("measure", "measured by"),
            _count("n_open", "open layers"),
            _count("n_layers", "layers"),
            _words("most_exposed", "most exposed"),
            _share("most_exposure", "highest E"),
            _share("mean_exposure", "mean E"),
            _count("n_seeds", "seeds"),
        ),
    ),
    View(
        "layers", "Layers", "exposure", "a row a layer of a defense",
        lambda table: table.layers,
        (
            _words("measure", "measured by"),
            _count("number", "number"),
            _words("layer", "layer"),
            _count("parameters", "parameters"),
            _share("exposure", "E"),
            Column("public_frac", "share in public file", lambda row: Text(f"{row['public_frac']:.2f}")),
            _OPEN,
        ),
    ),
    View(
        "cost", "Cost", "cost", "a row a defense: what a query costs",
        lambda table: table.defenses,
        (
            Column("latency_ratio", "latency ratio", header="latency\nratio"),
            Column("protected_us", "query us", header="query\nus"),
            Column("ree_us", "REE us", header="REE\nus"),
            Column("tee_us", "TEE us", header="TEE\nus"),
            Column("switch_us", "switch us", header="switch\nus"),
            Column("switches_per_query", "switches", header="switches"),
            Column("bytes_to_tee", "to TEE", header="to TEE"),
            Column("bytes_from_tee", "from TEE", header="from TEE"),
            Column("tee_peak_bytes", "TA peak MiB (plan / limit)", header="TA peak MiB\n(plan / limit)"),
            Column("ree_bytes", "REE MiB", header="REE\nMiB"),
            Column("tee_flops_frac", "FLOPs in TEE", header="FLOPs\nin TEE"),
            Column(PREDICTED_PI, "Pi 3B+ ms (predicted)", header="Pi 3B+ ms\n(predicted)"),
        ),
        cost_grid,
    ),
)  # fmt: skip


def rows_of(view: View, table: Table) -> Iterator[tuple[Mapping[str, Any], list[Cell]]]:
    """Each row of the frame and its cells, in the leaderboard's order."""
    frame = view.frame(table)
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    texts = _grid_texts(view, table)
    for row in rows:
        yield row, [_cell(column, row, texts) for column in view.columns]


def _grid_texts(view: View, table: Table) -> Mapping[tuple[str, str], Text]:
    """Texts of the terminal's grid by defense and header."""
    if view.grid is None:
        return {}
    grid = view.grid(table)
    return {(row[0].value, header): text for row in grid.rows for header, text in zip(grid.headers, row, strict=True)}


def _cell(column: Column, row: Row, texts: Mapping[tuple[str, str], Text]) -> Cell:
    made = column.text(row) if column.text else texts.get((row["defense"], column.header))
    if made is None:  # a column that the terminal leaves out, since no row of the table has it
        return [None, NONE]
    value = made.value if column.words else _number(row.get(column.field))
    cell: Cell = [value, made.value.strip()]
    low, high = _number(row.get(f"{column.field}_low")), _number(row.get(f"{column.field}_high"))
    if made.interval:
        cell += [made.interval] if low is None or high is None or value is None else [made.interval, low, high]
    return cell


def _number(value: Any) -> float | int | None:
    """A plain number; None for what was not measured."""
    if value is None or value != value:
        return None
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, int | float) else None


def columns_of(view: View) -> Sequence[Mapping[str, Any]]:
    """The columns as a script reads them."""
    return [{"field": c.field, "title": c.title, "words": c.words} for c in view.columns]
