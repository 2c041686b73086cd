"""``leakboard submit``: each takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from suite import progress
from suite import publishing as publication
from suite.matrix import LATENCY
from suite.model import Goal
from suite.readme_head import head, inside, write_head
from suite.record import RecordError
from suite.registry import did_you_mean, discover
from suite.store import Store
from suite.submission import Division, Problem, Refused, Submission, printable, read_loose
from suite.submission_bundle import write_bundle
from suite.submission_rerun import rerun, warning
from suite.submitting import Verdict, judge, read_all

PUBLISHED = Path("results/published")
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
    checking.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="records (.json), results folders, bundles (.zip)"
    )
    checking.add_argument(
        "--rerun", action="store_true", help="evaluate the cells again here, which RUNS the plugins that were handed in"
    )
    checking.add_argument("--board", metavar="NAME", help="with --rerun: on this board, not the one of the record")
    checking.add_argument("--all", action="store_true", help=f"print every problem, not the first {_SHOWN}")
    publishing = add("publish", publish, "put accepted records where the README's leaderboard is made of, and make it")
    publishing.add_argument("results", nargs="?", type=Path, help="folder or bundle (default: the README alone)")
    publishing.add_argument("-o", "--output", default=PUBLISHED, type=Path, metavar="DIR", help="default: %(default)s")
    publishing.add_argument("--readme", default=Path("README.md"), type=Path, metavar="FILE")
    publishing.add_argument("--select", action="append", default=[], metavar="ID", help="cells by id, with * and ?")
    publishing.add_argument("--goals", default=",".join(publication.GOALS), help="default: %(default)s")
    publishing.add_argument("--best", type=int, metavar="N", help="of each defense only the N attacks of highest AUC")
    publishing.add_argument("--replace", action="store_true", help="take out what is published of the same tables")
    publishing.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="source; not run")
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
    if options.board is not None and not options.rerun:
        raise RecordError("--board says where cells are evaluated again: write --rerun, too")
    discover()
    store, good, empty = Store(), True, True
    for submission, problems in read_all(options.files, options.plugin, Division(options.division), options.declare):
        verdict = judge(submission, problems, store)
        _print(verdict, everything=options.all)
        good &= verdict.accepted
        empty = False
        if options.rerun and verdict.accepted:
            good &= _rerun(verdict.submission, options.board, store)
        elif options.rerun:
            print("not evaluated again, since it is refused as it is")
    if empty:
        raise RecordError(f"{options.files[0]}: no records in it; name a results folder, records or bundles")
    return 0 if good else 1


def _rerun(submission: Submission, board: str | None, store: Store) -> bool:
    """Evaluate all cells again; whether they came to the same."""
    print(printable(warning(submission)), file=sys.stderr, flush=True)
    same = total = 0
    with progress.sink(progress.to_stderr):
        for again in rerun(submission, board, store, progress.tell):
            total += 1
            same += not again.problems
            for problem in again.problems:
                print(f"- {problem}")
            if again.note:
                print(f"- note: another machine: {again.note}")
    print(f"{printable(submission.name)}: {same} of {total} cells came to the same here, within their intervals")
    return same == total


def publish(options: Namespace) -> int:
    """Publish, and rewrite the README's table; 1 when a record that was asked for is refused."""
    if options.best is not None and options.best < 1:
        raise RecordError(f"--best {options.best}: write a number from 1")
    goals = [goal.strip() for goal in options.goals.split(",")]
    known = (*map(str, Goal), LATENCY)
    for goal in goals:
        if goal not in known:
            raise RecordError(f"--goals {goal!r}: no such goal{did_you_mean(goal, known)}")
    inside(options.readme.read_text(encoding="utf-8") if options.readme.is_file() else "", options.readme)
    refused: tuple[Problem, ...] = ()
    if options.results is not None:
        discover()
        try:
            done = publication.publish(
                options.results, options.output, Store(),
                plugins=options.plugin, select=options.select, goals=goals, best=options.best, replace=options.replace,
            )  # fmt: skip
        except Refused as error:
            raise RecordError(str(error)) from error
        refused = done.refused
        for problem in refused:
            print(f"- refused: {problem}", file=sys.stderr)
        size = publication.size_bytes(options.output)
        print(f"published: {len(done.cells)} records in {options.output} ({size:,} of {publication.MAX_BYTES:,} bytes)")
        if done.removed:
            print(f"taken out: {len(done.removed)} records that were published before")
    changed = write_head(options.readme, head(options.output))
    print(f"{'written' if changed else 'up to date'}: {options.readme}")
    return 1 if refused else 0


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
    said = "accepted" if verdict.accepted else f"refused, {progress.counted(len(verdict.problems), 'problem')}"
    what = f"{progress.counted(len(submission.items), 'record')}, {submission.division} division"
    print(f"{printable(submission.name)}: {said} ({what})")
