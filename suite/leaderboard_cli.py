"""The leaderboard at the end of a run and on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from suite.leaderboard import Leaderboard, leaderboard
from suite.record import RecordError
from suite.records import read_records, read_scores
from suite.render import terminal, write_tables
from suite.session import Run


def of_folder(results: Path) -> Leaderboard:
    """Every table that the records under ``results`` give."""
    records, problems = read_records(results)
    return leaderboard(records, lambda record: read_scores(results, record), problems=problems)


def print_left_out(reporter: Any, notes: dict[str, list[Any]]) -> None:
    """What was excluded, by reason and deployment, and what went wrong with the matrix as a whole."""
    if notes["excluded"]:
        reporter.section("excluded cells")
    for reason, names in excluded_by_reason(notes["excluded"]).items():
        reporter.write_line(f"{reason}:")
        for name in names:
            reporter.write_line(f"    {name}")
    for line in (*notes["usage"], *notes["starved"]):
        reporter.write_line(f"ERROR: {line}", red=True)


def excluded_by_reason(excluded: Iterable[tuple[str, str, str]]) -> dict[str, list[str]]:
    """Cell ids by reason, from (id, measure, reason); ids that only differ in the measure as ``a-{b,c}-d``."""
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, measure, reason in excluded:
        before, _, after = name.partition(f"-{measure}-")
        found.setdefault(reason, {}).setdefault((before, after), []).append(measure)
    return {
        reason: [
            f"{before}-{measures[0] if len(measures) == 1 else '{' + ','.join(measures) + '}'}-{after}"
            for (before, after), measures in places.items()
        ]
        for reason, places in found.items()
    }


def print_tables(reporter: Any, run: Run, notes: dict[str, list[Any]]) -> None:
    """The tables that the run's cells belong to; all tables go to files."""
    results = run.bench.results
    board = of_folder(results)
    touched = {tuple(group) for group in notes["cells"]}
    shown = [t for t in board.tables if (t.victim, t.dataset, t.profile, t.board) in touched]
    if shown:
        reporter.section("leaderboard")
        reporter.write(terminal(dataclasses.replace(board, tables=tuple(shown))))
    try:
        written = write_tables(board, results)
    except RecordError as error:
        reporter.write_line(f"ERROR: {error}", red=True)
        return
    if shown:
        reporter.write_line(
            f"Records: {results}. Tables: {', '.join(path.name for path in written)} in the same folder."
        )
