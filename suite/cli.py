"""The ``leakboard`` command: everything besides running cells, which is pytest's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from device.board import BoardError
from suite import (
    board_commands,
    commands,
    comparing_commands,
    docs_commands,
    exposure_commands,
    finetune_commands,
    new_commands,
    nightly_commands,
    predict_commands,
    rescoring_commands,
    run_commands,
    sealing_commands,
    secure_commands,
    site_commands,
    submit_commands,
    transfer,
)
from suite.errors import EXPECTED
from suite.graph.planner import DoesNotFit
from suite.render import FORMATS

DEFAULT_RESULTS = "results/local"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = "How much does a model leak when part of it hides in a TEE, and what does the hiding cost?"
    top = argparse.ArgumentParser(prog="leakboard", description=about)
    subs = top.add_subparsers(dest="command", required=True)

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = subs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    board = add("leaderboard", commands.leaderboard, "print the tables that a folder of records gives")
    board.add_argument("results", nargs="?", default=DEFAULT_RESULTS, type=Path)
    board.add_argument("--format", choices=sorted(FORMATS), default="terminal")

    transfer.add_transfer(add, DEFAULT_RESULTS)
    listing = add("list", commands.list_plugins, "list victims, defenses, attacks, data sets, profiles and boards")
    plan = add("plan", commands.plan, "show what a defense would need of the TEE, layer by layer")
    plan.add_argument("victim")
    plan.add_argument("defense", help='for example "darknetz[k=2]"')
    plan.add_argument("--dataset", default="cifar10", help="gives input shape and classes (default: %(default)s)")
    plan.add_argument("--input", metavar="CxHxW", help="images of this shape instead, such as 3x224x224")
    plan.add_argument("--classes", type=int, metavar="N", help="this many classes instead")
    plan.add_argument("--cuts", action="store_true", help="what every k of the defense would need, and which fit")
    plan.add_argument("--tee-mib", type=float, default=16.0, help="the TEE's memory limit (default: %(default)g)")
    predict_commands.add_predict(add)
    finetune_commands.add_finetune(add)
    exposure_commands.add_exposure(add)
    rescoring_commands.add_rescore(add, DEFAULT_RESULTS)
    comparing_commands.add_compare(add, DEFAULT_RESULTS)
    site_commands.add_site(add, DEFAULT_RESULTS)
    docs_commands.add_docs(add)
    nightly_commands.add_nightly(add)
    new_commands.add_new(add)
    check = add("check", commands.check, "run the conformance kit over plugins")
    check.add_argument("names", nargs="*", help="plugins by name (default: all, or those of --plugin)")
    for sub in (listing, plan, check):
        sub.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")

    data = add("data", commands.data, "fetch data sets and say where they came from")
    data.add_argument("names", nargs="+")
    store = add("store", commands.store, "look after the store of trained models and measurements")
    store.add_argument("action", choices=("path", "check", "repair"), help="repair removes damaged entries")
    board_commands.add_parser(subs)
    secure_commands.add_secure(add)
    run_commands.add_run(add)
    sealing_commands.add_seal(subs)
    sealing_commands.add_unseal(subs)
    submit_commands.add_submit(subs, DEFAULT_RESULTS)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for an error (one line on stderr), 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except DoesNotFit as error:
        print(f"{error.plan.table()}\nleakboard: error: {error}", file=sys.stderr)
        return 1
    except BoardError as error:
        print(f"leakboard: error: {error}", file=sys.stderr)  # what compilers and consoles say keeps its lines
        return 1
    except (*EXPECTED, ValueError) as error:
        print(f"leakboard: error: {'; '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
