"""``leakboard site``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from suite.site.build import DEFAULT_TITLE, build

_MANY = 20
Add = Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]


def add_site(add: Add, default_results: str) -> None:
    """Add ``site`` to the command line."""
    sub = add("site", run_site, "write leaderboards, figures and records as a static site that opens from disk")
    sub.add_argument("results", nargs="?", default=default_results, type=Path)
    sub.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="an older site there is replaced")
    sub.add_argument("--title", default=DEFAULT_TITLE, help="default: %(default)s")
    sub.add_argument(
        "--history", type=Path, metavar="FOLDER",
        help="nights to plot: FOLDER/<board>/<YYYY-MM-DD>/<profile>/*.json, such as results/nightly",
    )  # fmt: skip
    sub.add_argument("--scores", action="store_true", help="copy raw scores beside the records")


def run_site(options: Namespace) -> int:
    """Build the site and say where it is; files left out are named, and make no error."""
    built = build(
        options.results,
        options.output,
        title=options.title,
        history=options.history,
        with_scores=options.scores,
    )
    for problem in built.problems[:_MANY]:
        print(f"left out: {problem}", file=sys.stderr)
    if len(built.problems) > _MANY:
        print(f"and {len(built.problems) - _MANY:,} more, all named on the site's first page", file=sys.stderr)
    nights = f" and {built.n_night_records:,} of nights" if built.n_night_records else ""
    print(f"{built.n_records:,} records{nights}, {built.n_tables:,} tables: {options.output / 'index.html'}")
    return 0
