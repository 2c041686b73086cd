"""``leakboard rescore``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from suite.estimate import Estimate
from suite.record import Record, RecordError
from suite.records import read_records, read_scores, write_atomic
from suite.rescoring import METRICS, Metric, differences, find_metric, further

_KEYS = ("victim", "dataset", "profile", "board", "defense", "measure", "seed")
_Rows = list[tuple[Record, Mapping[str, Estimate | None]]]


def add_rescore(
    add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser], default_results: str
) -> None:
    """Add ``rescore`` to the command line."""
    sub = add("rescore", rescore, "compute every metric again from raw scores; compare with the records, add others")
    sub.add_argument("results", nargs="?", default=default_results, type=Path)
    known = ", ".join(METRICS)
    sub.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help=f"a metric besides: {known}, module:function or file.py:function, of (scores, is_member)",
    )
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the metrics besides as CSV")


def rescore(options: Namespace) -> int:
    """Recompute; 1 when a record is not what its raw scores give, or cannot be checked."""
    metrics = [find_metric(text) for text in options.metric]
    records, problems = read_records(options.results)
    if not records and not problems:
        problems = [f"{options.results}: no records"]
    rows: _Rows = []
    equal = 0
    for record in records:
        try:
            scores = read_scores(options.results, record)
            found = differences(record, scores)
            rows.append((record, further(record, scores, metrics)))
        except (RecordError, ValueError) as error:
            problems.append(f"{record.cell.id}: {error}")
            continue
        equal += not found
        for difference in found:
            print(difference)
    print(f"{equal} of {len(records)} records are, to the last bit, what their raw scores give")
    for problem in problems:
        print(f"leakboard: error: {problem}", file=sys.stderr)
    shown = [row for row in rows if row[1]]
    if shown:
        print(f"\n{_table(shown, metrics)}")
    if options.output:
        write_atomic(options.output, _csv(shown, metrics).encode())
        print(f"written: {options.output}")
    return 0 if equal == len(records) and not problems else 1


def _table(rows: _Rows, metrics: Sequence[tuple[str, Metric]]) -> str:
    lines = [
        (record.cell.id, *("-" if found[name] is None else str(found[name]) for name, _ in metrics))
        for record, found in rows
    ]
    return tabulate(lines, ("cell", *(name for name, _ in metrics)), disable_numparse=True)


def _csv(rows: _Rows, metrics: Sequence[tuple[str, Metric]]) -> str:
    """One line a cell, full precision; a figure that the data cannot show is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [name for name, _ in metrics]
    writer.writerow(("cell", *_KEYS, *(column for name in names for column in (name, f"{name}_low", f"{name}_high"))))
    for record, found in rows:
        figures = [figure for name in names for figure in _figures(found[name])]
        writer.writerow((record.cell.id, *(getattr(record.cell, key) for key in _KEYS), *figures))
    return stream.getvalue()


def _figures(estimate: Estimate | None) -> tuple[float | str, ...]:
    return ("", "", "") if estimate is None else (estimate.value, estimate.low, estimate.high)
