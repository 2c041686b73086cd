"""``leakboard new``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import shlex
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from suite.registry import Kind
from suite.scaffold import write_package


def add_new(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``new`` to the command line."""
    sub = add("new", new, "write a package for a plugin of your own, which works as it is")
    sub.add_argument("kind", type=Kind, choices=list(Kind), metavar="KIND", help=", ".join(Kind))
    sub.add_argument("name", help="a-z, 0-9 and _; not within another's name, nor one within it, since -k selects")
    sub.add_argument("-o", "--output", type=Path, metavar="DIR", help="a folder that does not exist (default: NAME)")


def new(options: Namespace) -> int:
    """Write the package and say what is next."""
    folder = options.output or Path(options.name)
    written = write_package(options.kind, options.name, folder)
    print(f"{folder}: {', '.join(map(str, written))}\n")
    where = shlex.quote(str(folder))
    print(f"next: pip install -e {where} && leakboard check {options.name} && pytest {where}")
    return 0
