"""What a folder of records says of one plugin, as Markdown with links to the records."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from suite.exposure_grids import exposure_grids
from suite.leaderboard import Table, leaderboard
from suite.record import Record
from suite.records import read_records, read_scores, record_path
from suite.registry import Kind, Plugin
from suite.render import one_in_markdown
from suite.render_extraction import extraction_grid
from suite.render_grids import Grid, attack_grid, cost_grid, leak_grid


@dataclass(frozen=True, slots=True)
class RecordedTables:
    """The tables of a results folder, and the records that each was made of; ``problems``: files left out, and why."""

    folder: Path
    tables: tuple[tuple[Table, tuple[Record, ...]], ...] = ()
    problems: tuple[str, ...] = ()


def recorded(folder: Path) -> RecordedTables:
    """Read every record under ``folder``; none where there is no such folder."""
    if not folder.is_dir():
        return RecordedTables(folder)
    records, problems = read_records(folder)
    board = leaderboard(records, lambda record: read_scores(folder, record), problems=problems)
    pairs = tuple((table, tuple(r for r in records if _key(r) == tuple(table.key.values()))) for table in board.tables)
    return RecordedTables(folder, pairs, board.problems)


def sections(found: RecordedTables, plugin: Plugin, page: Path) -> Iterator[str]:
    """One Markdown section a table that has rows of the plugin; links are relative to the file ``page``.

    A defense's and a victim's rows show the best attack and the cost, an attack's show what it got out of each defense.
    """
    for table, records in found.tables:
        mine = [record for record in records if _is_of(record, plugin)]
        if not mine:
            continue
        grids = list(_attack_grids(table, mine) if plugin.kind is Kind.ATTACK else _defense_grids(table, mine))
        shown = mine if plugin.kind is Kind.ATTACK else _behind_rows(table, mine)
        title = f"### {table.victim} on {table.dataset} ({table.profile}, board {table.board})"
        links = ", ".join(f"[{r.cell.id}]({_link(found.folder, r, page)})" for r in shown)
        tables = (one_in_markdown(grid, "").strip().removeprefix("### ") for grid in grids)
        yield "\n\n".join([title, *(f"**{text.replace(chr(10), '**' + chr(10), 1)}" for text in tables), links])


def _defense_grids(table: Table, mine: list[Record]) -> Iterator[Grid]:
    rows = table.defenses[table.defenses.defense.isin({r.cell.defense for r in mine})]
    own = dataclasses.replace(table, defenses=rows)
    if rows.best_attack.notna().any():
        yield leak_grid(own)
    yield cost_grid(own)


def _attack_grids(table: Table, mine: list[Record]) -> Iterator[Grid]:
    """Of one goal: an attack has one."""
    measures, attacked = {r.cell.measure for r in mine}, {r.cell.defense for r in mine}

    def own(frame: pd.DataFrame, column: str) -> pd.DataFrame:
        return frame[frame[column].isin(measures)]

    defenses = table.defenses[table.defenses.defense.isin(attacked)]
    if mine[0].outcome == "attack":
        yield attack_grid(dataclasses.replace(table, defenses=defenses, attacks=own(table.attacks, "attack")))
    elif mine[0].outcome == "extraction":
        yield extraction_grid(dataclasses.replace(table, extraction=own(table.extraction, "attack")))
    else:
        yield from exposure_grids(own(table.exposure, "measure"), own(table.layers, "measure"))


def _behind_rows(table: Table, mine: Iterable[Record]) -> list[Record]:
    """The records that the rows of leak and cost rest on: the best attack's of each defense, and the latency's."""
    best = dict(zip(table.defenses.defense, table.defenses.best_attack, strict=True))
    return [r for r in mine if r.outcome == "latency" or r.cell.measure == best.get(r.cell.defense)]


def _is_of(record: Record, plugin: Plugin) -> bool:
    cell = record.cell
    named = {
        "victim": cell.victim,
        "defense": cell.defense_spec.partition("[")[0],
        "attack": cell.measure_spec.partition("[")[0],
        "board": cell.board,
    }
    return named.get(plugin.kind) == plugin.name


def _key(record: Record) -> tuple[str, ...]:
    cell = record.cell
    return cell.victim, cell.dataset, cell.profile, cell.board, str(record.provenance.board.get("mode", ""))


def _link(folder: Path, record: Record, page: Path) -> str:
    path = record_path(folder, record.cell.profile, record.cell.id)
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
