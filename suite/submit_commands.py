"""``leakboard submit``: each takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from suite.record import RecordError
from suite.registry import did_you_mean, discover
from suite.store import Store
from suite.submission import Division, Refused, printable, read_loose
from suite.submission_bundle import write_bundle
from suite.submitting import Verdict, judge, read_all

_SHOWN = 20
"""Problems of one verdict that are printed one by one."""


def add_submit(subs: argparse._SubParsersAction[argparse.ArgumentParser], default_results: str) -> None:
    """Add ``submit`` and what it can do to the command line."""
    text = "hand in records, check what others hand in, publish (docs/submissions.md)"
    submit = subs.add_parser("submit", help=text, description=text)
    actions = submit.add_subparsers(dest="action", required=True)

    def add(name: str, run: Callable[[Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    packing = add("pack", pack, "make one file of records, their raw scores and the source of new plugins")
    packing.add_argument("cells", nargs="+", metavar="CELL", help="ids with * and ?, or record files")
    packing.add_argument("--results", default=default_results, type=Path, metavar="DIR")
    packing.add_argument("-o", "--output", required=True, type=Path, metavar="FILE.zip")
    checking = add("check", check, "validate records or bundles; 0 when all are accepted, 1 when one is refused")
    checking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="records (.json) or bundles (.zip)")
    checking.add_argument("--all", action="store_true", help=f"print every problem, not the first {_SHOWN}")
    for sub in (packing, checking):
        sub.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="source; not run")
        sub.add_argument("--division", choices=[str(one) for one in Division], default=str(Division.CLOSED))
        sub.add_argument("--declare", default="", metavar="TEXT", help="what is not as in the closed division")


def pack(options: Namespace) -> int:
    """Write a bundle of records that can be read; 1 when it would not be accepted, with the reasons."""
    discover()
    paths = _find(options.cells, options.results)
    division = Division(options.division)
    submission, problems = read_loose(paths, options.plugin, division, options.declare)
    verdict = judge(submission, problems, Store())
    try:
        if not problems:
            write_bundle(options.output, submission)
    except Refused as error:
        problems = [error.problem]
        print(f"leakboard: error: {error}", file=sys.stderr)
    _print(verdict, everything=False)
    if problems:
        print(f"not written: {options.output}", file=sys.stderr)
    else:
        print(f"written: {options.output} ({len(submission.items)} records, {options.output.stat().st_size:,} bytes)")
    return 0 if verdict.accepted and not problems else 1


def check(options: Namespace) -> int:
    """Say of each submission whether it is accepted, and why not."""
    discover()
    store, good = Store(), True
    for submission, problems in read_all(options.files, options.plugin, Division(options.division), options.declare):
        verdict = judge(submission, problems, store)
        _print(verdict, everything=options.all)
        good &= verdict.accepted
    return 0 if good else 1


def _find(cells: list[str], results: Path) -> list[Path]:
    """Record files that are named, or whose ids match.

    Raises:
        RecordError: nothing of that name.
    """
    there = sorted(path for path in results.glob("*/*.json") if not path.name.startswith("."))
    found: list[Path] = []
    for cell in cells:
        if cell.endswith(".json"):
            found.append(Path(cell))
            continue
        matching = [path for path in there if fnmatch.fnmatchcase(path.stem, cell)]
        if not matching:
            hint = did_you_mean(cell, (path.stem for path in there)) if len(there) < _SHOWN else ""
            raise RecordError(f"no record {cell!r} in {results}{hint}; name the folder with --results")
        found += matching
    return list(dict.fromkeys(found))


def _print(verdict: Verdict, *, everything: bool) -> None:
    submission, most = verdict.submission, None if everything else _SHOWN
    for heading, problems in (("", verdict.problems), ("not as in the closed division: ", verdict.differs)):
        for problem in problems[:most]:
            print(f"- {heading}{problem}")
        if most is not None and len(problems) > most:
            print(f"- and {len(problems) - most} more (--all prints them)")
    for line in verdict.notes:
        print(f"- note: {printable(line)}")
    for line in verdict.look_at[:most]:
        print(f"- to be looked at by a reviewer: {printable(line)}")
    if submission.division is Division.OPEN and submission.declared:
        print(f"- declared: {printable(submission.declared)}")
    n = len(submission.items)
    said = "accepted" if verdict.accepted else f"refused, {len(verdict.problems)} problems"
    what = f"{n} {'record' if n == 1 else 'records'}, {submission.division} division"
    print(f"{printable(submission.name)}: {said} ({what})")
