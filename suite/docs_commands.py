"""``leakboard docs``: pages about what is registered, from the code and the records."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from suite.commands import load_plugins
from suite.plugin_pages import write_pages
from suite.registry import REGISTRY, Kind, PluginError

PUBLISHED_RESULTS = "results/published"


def add_docs(add: Callable[[str, object, str], argparse.ArgumentParser]) -> None:
    """Add ``leakboard docs``."""
    docs = add("docs", write, "write a page of Markdown for each plugin, from its docstring, its code and its records")
    docs.add_argument("what", choices=("plugins",))
    docs.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the pages")
    docs.add_argument(
        "--results", default=PUBLISHED_RESULTS, type=Path, metavar="DIR", help="records to show (default: %(default)s)"
    )
    docs.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")


def write(options: Namespace) -> int:
    """Write the pages; 1 when a record could not be used."""
    if options.output.exists() and not options.output.is_dir():
        raise PluginError(f"-o {options.output}: there is a file of that name; name a folder")
    load_plugins(options.plugin)
    problems = write_pages(options.output, options.results)
    for problem in problems:
        print(f"leakboard: error: {problem}", file=sys.stderr)
    count = sum(len(REGISTRY.all(kind)) for kind in Kind)
    shown = (
        f"records of {options.results}" if options.results.is_dir() else f"no records: there is no {options.results}"
    )
    print(f"{count} plugins in {options.output}, {shown}")
    return 1 if problems else 0
