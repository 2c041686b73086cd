"""The leaderboard at the end of a run and on the command line."""

from __future__ import annotations

import dataclasses
import itertools
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


def print_run(reporter: Any, run: Run, notes: dict[str, list[Any]], *, tables: bool) -> None:
    """What was excluded, what has no runnable cell, and the tables that the run's cells belong to."""
    grouped = itertools.groupby(sorted(notes["excluded"], key=lambda one: (one[1], one[0])), key=lambda one: one[1])
    excluded = [(reason, [name for name, _ in names]) for reason, names in grouped]
    if excluded:
        reporter.section("excluded cells")
        for reason, names in excluded:
            reporter.write_line(f"{reason}:")
            for name in names:
                reporter.write_line(f"    {name}")
    for line in notes["starved"]:
        reporter.write_line(f"ERROR: {line}", red=True)
    if not tables:
        return
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
