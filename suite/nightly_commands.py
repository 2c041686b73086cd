"""``leakboard nightly``: takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from suite.boards import SSH_FORM, make_board
from suite.nightly import comparing, night, summary
from suite.nightly.folders import SUMMARY, NightError, night_folder, nights_before, parse_date
from suite.nightly.health import MAX_TEMPERATURE_C, MIN_FREE_MIB
from suite.nightly.night import FINISHED, Night, read_night
from suite.nightly.running import Plan, run_night
from suite.progress import sink, to_stderr
from suite.registry import PluginError

FINE, REGRESSION, INCOMPLETE = 0, 3, 4
FOLDER = Path("results/nightly")
SUMMARY_ENV = "GITHUB_STEP_SUMMARY"
_RECENT = datetime.timedelta(hours=20)
_CELLS = ("profile", "seeds", "victims", "defenses", "attacks", "datasets", "queries", "tee_mib", "meter", "k")


def add_nightly(add: Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]) -> None:
    """Add ``nightly`` to the command line."""
    text = (
        "run cells on a board by night, and tell what got worse since the nights before; exit status 0: nothing, 3:"
        " something did, 4: the night is not whole"
    )
    sub = add("nightly", nightly, text)
    sub.add_argument("--board", help=f"emulated, qemu or {SSH_FORM}")
    sub.add_argument("--folder", type=Path, default=FOLDER, help="of all nights (default: %(default)s)")
    sub.add_argument("--date", help="the night's name, YYYY-MM-DD (default: that of one that was cut off, else today)")
    sub.add_argument("--nights", type=_whole, default=comparing.NIGHTS, metavar="N", help="compare with the last N")
    cells = sub.add_argument_group("cells, as pytest suite has them")
    cells.add_argument("--profile", default="quick")
    cells.add_argument("--seeds", default="0")
    for name in ("victims", "defenses", "attacks", "datasets", "queries", "tee-mib", "meter"):
        cells.add_argument(f"--{name}")
    cells.add_argument("-k", metavar="EXPRESSION", help="those whose names match")
    cells.add_argument("--plugin", action="append", default=[], metavar="FILE", type=Path, help="load a loose file")
    limits = sub.add_argument_group("limits")
    limits.add_argument("--max-attempts", type=_whole, default=3, metavar="N", help="runs of what is missing")
    limits.add_argument("--time-limit", type=_positive, default=10.0, metavar="HOURS", help="of the whole night")
    limits.add_argument("--stuck-after", type=_positive, default=30.0, metavar="MIN", help="a cell may take so long")
    limits.add_argument("--restart", metavar="COMMAND", help="restarts a board that got stuck, such as by its supply")
    health = sub.add_argument_group("health of the board")
    health.add_argument("--max-temperature", type=float, default=MAX_TEMPERATURE_C, metavar="C")
    health.add_argument("--min-free-mib", type=float, default=MIN_FREE_MIB, metavar="MIB")
    health.add_argument("--wait-healthy", type=float, default=30.0, metavar="MIN", help="before giving up")
    health.add_argument("--sample-every", type=_positive, default=60.0, metavar="S", help="during the night")
    sub.add_argument("--only-unfinished", action="store_true", help="go on with one that was cut off, or do nothing")
    actions = sub.add_subparsers(dest="action")
    again = actions.add_parser("compare", help="compare a night that is over with those before it once more")
    again.add_argument("folder", type=Path)
    again.add_argument("--board", required=True, help="as it was named then, or the name of its folder")
    again.add_argument("--date", required=True)
    again.add_argument("--nights", type=_whole, default=comparing.NIGHTS, metavar="N")


def nightly(options: Namespace) -> int:
    """Run a night, or compare one again."""
    if options.action == "compare":
        return _compare(options)
    if options.board is None:
        raise PluginError(f"which board? --board emulated, qemu or {SSH_FORM}")
    name = make_board(options.board).name
    unfinished = None if options.date else _unfinished(options.folder, name)
    if options.only_unfinished and unfinished is None:
        print(f"no night on {name} was cut off")
        return FINE
    date = parse_date(options.date) if options.date else unfinished or datetime.date.today().isoformat()
    cells = {key: getattr(options, key) for key in _CELLS} | {"plugin": [str(p.resolve()) for p in options.plugin]}
    emulated = options.board == "emulated"
    plan = Plan(
        board=options.board,
        folder=options.folder,
        date=date,
        cells=cells,
        max_attempts=options.max_attempts,
        time_limit_s=3600 * options.time_limit,
        stuck_s=60 * options.stuck_after,
        sample_s=options.sample_every,
        max_temperature_c=None if emulated else options.max_temperature,
        min_free_mib=options.min_free_mib,
        wait_healthy_s=60 * options.wait_healthy,
        restart=options.restart,
    )
    with _ended_by_sigterm(), sink(to_stderr):
        found, folder = run_night(plan, to_stderr)
    return _report(found, folder, options.folder, options.nights)


def _report(found: Night, folder: Path, home: Path, most: int) -> int:
    """Compare, write down what it comes to, print it; the exit status."""
    verdict = comparing.compare_nights(folder, nights_before(home, found.board, found.date, most))
    text = summary.markdown(found, verdict)
    found.verdict = dataclasses.asdict(verdict)
    found.write(folder)
    night.write_durably(folder / SUMMARY, text.encode())
    sys.stdout.write(text)
    print(f"\nwritten: {folder / SUMMARY}", file=sys.stderr)
    if place := os.environ.get(SUMMARY_ENV):
        try:
            with open(place, "a", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            print(f"leakboard: {SUMMARY_ENV} {place}: {error.strerror}", file=sys.stderr)
    return status_of(found, verdict)


def status_of(found: Night, verdict: comparing.Verdict) -> int:
    """INCOMPLETE before REGRESSION: what is missing may be worse than what is there; the summary names both."""
    if found.state != FINISHED or found.failed:
        return INCOMPLETE
    return REGRESSION if verdict.alarm else FINE


def _compare(options: Namespace) -> int:
    board = options.board
    if not (options.folder / board).is_dir():
        board = make_board(board).name
    folder = night_folder(options.folder, board, options.date)
    found = read_night(folder)
    if found is None:
        there = (
            sorted(p.name for p in (options.folder / board).glob("*-*-*")) if (options.folder / board).is_dir() else []
        )
        raise NightError(f"no night in {folder} (there: {', '.join(there) or 'none'})")
    verdict = comparing.compare_nights(folder, nights_before(options.folder, board, found.date, options.nights))
    sys.stdout.write(summary.markdown(found, verdict))
    return status_of(found, verdict)


def _unfinished(folder: Path, board: str) -> str | None:
    """The date of the last night, where it was cut off a short while ago."""
    home = folder / board
    dates = sorted((p.name for p in home.glob("*-*-*") if (p / "night.json").exists()), reverse=True)
    if not dates:
        return None
    try:
        last = read_night(home / dates[0])
    except NightError:
        return None  # damaged: it is for that date's own call to say so
    if last is None or last.state != night.RUNNING:
        return None
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(last.started_utc)
    return dates[0] if age < _RECENT else None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, with which services are stopped, as Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return value
