"""The suite inside pytest: options, cells as test ids, training before the first test, tables after the last."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device.emulated import EmulatedBoard
from device.qemu.board import RUN_ENV
from suite import progress
from suite.boards import SSH_FORM
from suite.matrix import Cell
from suite.session import Options, Run, UsageError

if TYPE_CHECKING:
    from suite.ahead import Ahead
    from suite.cluster import Cluster

PATIENCE_S = 5.0
"""What a cell does is shown when it takes longer than this; the dots tell of the others."""
_COLUMNS = ["min", "median", "iqr", "rounds"]

_RUN = pytest.StashKey[Run]()
_CLUSTER = pytest.StashKey["Cluster"]()
_NOTES = pytest.StashKey[dict[str, list[Any]]]()
_OUTER_RUN = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("leakboard", "Leakboard (pytest suite)")
    default = Options()
    add = group.addoption
    add("--board", default=default.board, help=f"emulated, qemu, {SSH_FORM} or a plugin's (default: %(default)s)")
    add("--profile", default=default.profile, help="smoke, quick or paper (default: %(default)s)")
    add("--seeds", default=default.seeds, help="0,1,2 or 0-4: one victim and split a seed (default: %(default)s)")
    add("--datasets", help="data sets by name, separated by commas (default: the profile's)")
    add("--victims", help="victims by exact name, separated by commas (default: all)")
    add("--defenses", help='defenses, e.g. "vanilla,darknetz[k=4]" (default: every variant of every plugin)')
    add("--attacks", help='attacks, e.g. "shadow[model=vgg11]" (default: every variant of every plugin)')
    add("--plugin", action="append", default=[], metavar="FILE", help="load a loose plugin file; can be repeated")
    add("--results", default=default.results, metavar="DIR", help="where records go (default: %(default)s)")
    add("--queries", metavar="N", help="put at most N candidates to the board, or all (default: the board's)")
    add("--tee-mib", metavar="MIB", help="memory limit of the TEE in MiB (default: the board's)")
    add("--ray", metavar="ADDRESS", help="train and attack on a Ray cluster: auto, ray://host:10001 or local")
    add("--store", metavar="URL", help="share what is made, by fsspec: s3://.., file://.. (default: LEAKBOARD_STORE)")
    add("--meter", help="power meter of a board: none, ina219[on=host] or ina260[address=0x41] (default: none)")


def _options(config: pytest.Config) -> Options:
    get = config.getoption
    return Options(
        get("board"), get("profile"), get("seeds"), get("datasets"), get("victims"), get("defenses"), get("attacks"),
        tuple(str(Path(p).resolve()) for p in get("plugin")), get("results"), get("tee_mib"), get("queries"),
        get("ray"), get("store"), get("meter"),
    )  # fmt: skip


def _wants_suite(config: pytest.Config) -> bool:
    """Whether the command line leads to the suite's cells (and not, say, to the project's own tests)."""
    here = Path(__file__).resolve().parent
    for argument in config.args:
        name = argument.split("::")[0]
        path = (config.invocation_params.dir / name).resolve()
        if name in ("suite", "suite.test_cells") or path == here or here in path.parents or path in here.parents:
            return True
    return False


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes of pytest-xdist."""
    return hasattr(config, "workerinput")


def _is_controller(config: pytest.Config) -> bool:
    """Whether this process hands its tests to xdist workers."""
    return bool(getattr(config.option, "dist", "no") != "no" and not _is_worker(config))


@contextlib.contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """The terminal as it is, past pytest's capturing."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _showing_progress(config: pytest.Config, patience_s: float = 0.0) -> Iterator[None]:
    """Let progress through to the terminal: to standard output, or from an xdist worker to standard error.

    It is written to a descriptor of our own, since a note on what takes long comes from another thread, which must
    not meddle with the capturing.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    worker = os.environ.get("PYTEST_XDIST_WORKER") if _is_worker(config) else None
    with _uncaptured(config):
        terminal = os.dup(2 if worker else 1)

    def show(text: str) -> None:
        said = f"[{worker}] {text}\n" if worker else f"{text}\n"
        if patience_s:  # the line holds the dots of the cells before, or the name of this one
            os.write(terminal, f"\n{said}".encode())
        elif worker:
            os.write(terminal, said.encode())
        else:
            with _uncaptured(config):
                if reporter is not None:
                    reporter.ensure_newline()
                    reporter.flush()
                os.write(terminal, said.encode())

    try:
        with progress.sink(show, patience_s=patience_s):
            yield
    finally:
        os.close(terminal)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name the run, and tell pytest-benchmark what to do before it looks at its own options."""
    if not _is_worker(config):  # whose environment has the controller's
        config.stash[_OUTER_RUN] = os.environ.get(RUN_ENV)
        os.environ[RUN_ENV] = f"{os.getpid()}-{secrets.token_hex(4)}"
    if not _wants_suite(config) or not hasattr(config.option, "benchmark_disable"):
        return
    if _is_worker(config) or _is_controller(config):
        # Under xdist it disables itself, with a warning. Cells are timed all the same: the suite keeps the times.
        config.option.benchmark_disable = not config.option.benchmark_enable
    if not any(argument.startswith("--benchmark-columns") for argument in config.invocation_params.args):
        config.option.benchmark_columns = _COLUMNS


def pytest_unconfigure(config: pytest.Config) -> None:
    """The run is over; one that it is part of is not."""
    if _is_worker(config) or _OUTER_RUN not in config.stash:
        return
    outer = config.stash[_OUTER_RUN]
    if outer is None:
        os.environ.pop(RUN_ENV, None)
    else:
        os.environ[RUN_ENV] = outer


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Read the options and get the data, before anything is collected."""
    config = session.config
    config.stash[_NOTES] = {"excluded": [], "starved": [], "cells": [], "usage": []}
    if not _wants_suite(config):
        return
    from victims.data.progress import show_on

    try:
        if config.option.ray is not None and (_is_worker(config) or _is_controller(config)):
            raise UsageError("--ray and -n both spread the work: choose one")
        run = Run(_options(config))
        with _showing_progress(config), _uncaptured(config), contextlib.ExitStack() as stack:
            # The controller tells what is fetched; workers wait for the same lock.
            show_on(stack.enter_context(open(os.devnull, "w")) if _is_worker(config) else sys.stderr)
            stack.callback(show_on, None)
            run.prepare(really=not config.option.collectonly)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_RUN] = run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the two tests of ``suite/test_cells.py`` their cells."""
    run = metafunc.config.stash.get(_RUN, None)
    if run is None or metafunc.module.__name__.rpartition(".")[2] != "test_cells":
        return
    for name, attacking in (("cell", True), ("latency_cell", False)):
        if name in metafunc.fixturenames:
            cells = [cell for cell in run.cells if (cell.attack is not None) is attacking]
            metafunc.parametrize(name, cells, ids=[cell.id for cell in cells])


def run_of(config: pytest.Config) -> Run | None:
    """The run that pytest's options asked for; None where no cells are wanted."""
    return config.stash.get(_RUN, None)


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell that a test measures, if it measures one."""
    callspec = getattr(item, "callspec", None)
    found = callspec and (callspec.params.get("cell") or callspec.params.get("latency_cell"))
    return found if isinstance(found, Cell) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out, with a reason, what cannot be run; only what ``-k`` left is looked at."""
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    notes = config.stash[_NOTES]
    cells = {item: cell for item in items if (cell := cell_of(item))}
    try:
        with _showing_progress(config):
            kept = {cell.id for cell in run.screen(cells.values())}
    except UsageError as error:
        if not _is_worker(config):
            raise pytest.UsageError(str(error)) from error
        notes["usage"] = [str(error)]  # for the controller to say, once
        items.clear()
        return
    out = [item for item, cell in cells.items() if cell.id not in kept]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = set(out)
        items[:] = [item for item in items if item not in gone]
    remaining = [cell for item in items if (cell := cell_of(item))]
    notes["excluded"] = [[one.cell.id, one.cell.measure, one.reason] for one in run.excluded]
    notes["starved"] = run.starved(remaining)
    notes["cells"] = [[cell.victim.slug, cell.dataset, cell.profile.name, cell.board] for cell in remaining]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Train everything that the selected cells need, all cores busy, before the first test."""
    config = session.config
    run = config.stash.get(_RUN, None)
    if run is None or config.option.collectonly or _is_controller(config):
        return
    from suite import pool
    from suite.run import training_jobs

    cells = [cell for item in session.items if (cell := cell_of(item))]
    with _showing_progress(config):
        if cells and config.option.ray is not None:
            config.stash[_CLUSTER] = _join(config.option.ray, run)
        # An error fails the cells that need the model, each with its own report, and no others.
        with contextlib.suppress(Exception):
            jobs = training_jobs(cells, run.bench.store)
            pool.ensure(run.bench.store, jobs, run.bench.plugins, _training_workers(config))
        if cluster := config.stash.get(_CLUSTER, None):
            cluster.begin(cells, run.bench)


def _join(address: str, run: Run) -> Cluster:
    from suite.cluster import Cluster

    try:
        return Cluster(address, run.bench.store, run.bench.plugins)
    except (RuntimeError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error


def _training_workers(config: pytest.Config) -> int | Cluster | None:
    """An xdist worker trains alone, beside the others; otherwise all cores are ours, or those of a cluster."""
    return 1 if _is_worker(config) else config.stash.get(_CLUSTER, None)


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Store, board and results folder of this run."""
    import dataclasses

    run = request.config.stash[_RUN]
    with _showing_progress(request.config, PATIENCE_S), contextlib.ExitStack() as stack:
        ahead = _ahead(request, run)
        if ahead is not None:
            stack.callback(ahead.close)
        yield dataclasses.replace(run.bench, workers=_training_workers(request.config), ahead=ahead)


def _ahead(request: pytest.FixtureRequest, run: Run) -> Ahead | None:
    """Work on attack cells before their turn, where cores are free and the board is one of as many as are wanted."""
    from suite.ahead import Ahead

    cores = len(os.sched_getaffinity(0))
    spread = _is_worker(request.config) or request.config.option.ray is not None
    if spread or cores < 2 or type(run.bench.board) is not EmulatedBoard:
        return None
    cells = [cell for item in request.session.items if (cell := cell_of(item)) and cell.attack is not None]
    return Ahead(run.bench, cells, cores)


def pytest_runtest_teardown() -> None:
    """A cell is over, and so is what it was at."""
    progress.settle()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the board; hand what a worker found to the controller; fail a run where a plugin had nothing to run.

    With xdist, workers have ended when the controller's session does. Ctrl-C leads here, too.
    """
    config = session.config
    run = config.stash.get(_RUN, None)
    if cluster := config.stash.get(_CLUSTER, None):
        cluster.close()
    if run is not None and not _is_worker(config):
        run.bench.board.close()
    notes = config.stash.get(_NOTES, None)
    if notes is None:
        return
    if _is_worker(config):
        config.workeroutput["leakboard"] = notes  # type: ignore[attr-defined]
    elif session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        if notes["usage"]:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif notes["starved"]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what an xdist worker found; all workers find the same."""
    found = getattr(node, "workeroutput", {}).get("leakboard")
    if found:
        node.config.stash[_NOTES] = found


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Print what was left out and why, and the leaderboards that this run touched."""
    notes, run = config.stash.get(_NOTES, None), config.stash.get(_RUN, None)
    if notes is None or run is None:
        return
    from suite.leaderboard_cli import print_left_out, print_tables

    print_left_out(terminalreporter, notes)
    if config.option.collectonly or notes["usage"]:
        return
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        terminalreporter.write_line("Interrupted. What is finished is kept; the same command goes on from here.")
        return
    print_tables(terminalreporter, run, notes)
