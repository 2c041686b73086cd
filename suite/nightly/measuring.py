"""A pytest plugin for the process that runs a night's cells: skips what is done, and tells the watcher what happens.

Loaded with ``-p suite.nightly.measuring`` beside ``suite.plugin``, by ``suite.nightly.running`` alone.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from suite.matrix import Cell
from suite.nightly import journal
from suite.nightly.answers import NightStore
from suite.nightly.night import sync
from suite.plugin import cell_of, run_of
from suite.record import RecordError
from suite.records import read_record, read_scores, record_path

ANSWERS_ENV = "LEAKBOARD_NIGHT_ANSWERS"
"""Names the folder of what the board answers in this night."""
WATCHER_ENV = "LEAKBOARD_NIGHT_WATCHER"
"""Names the process that started this one."""
_LONE_S = 0.5


def _journal() -> Path:
    return Path(os.environ[journal.ENV])


def whole(results: Path, profile: str, cell_id: str) -> bool:
    """Whether the cell has a record in the folder that can be read, raw scores included."""
    try:
        read_scores(results, read_record(record_path(results, profile, cell_id)))
    except RecordError:
        return False
    return True


def pytest_configure(config: pytest.Config) -> None:
    """End with the watcher: a run that nobody watches would measure beside the next one."""
    watcher = int(os.environ[WATCHER_ENV])

    def watch() -> None:
        while os.getppid() == watcher:
            time.sleep(_LONE_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="watcher's end", daemon=True).start()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell which cells there are, and leave those that this night has measured."""
    run = run_of(config)
    if run is None:
        return
    run.bench = dataclasses.replace(run.bench, store=NightStore(Path(os.environ[ANSWERS_ENV])))
    cells = {item: cell for item in items if (cell := cell_of(item))}
    excluded = {one.cell.id: one.reason for one in run.excluded}
    journal.append(_journal(), "asked", cells=[cell.id for cell in cells.values()], excluded=excluded)
    results, profile = run.bench.results, run.profile.name
    done = {item for item, cell in cells.items() if whole(results, profile, cell.id)}
    if done:
        config.hook.pytest_deselected(items=list(done))
        items[:] = [item for item in items if item not in done]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A cell begins."""
    if cell := cell_of(item):
        journal.append(_journal(), "begun", cell=cell.id)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A cell is over; its record is on the disk before that is told."""
    report = yield
    cell = cell_of(item)
    if cell and (report.when == "call" or report.failed):
        run = run_of(item.config)
        assert run is not None
        kept = whole(run.bench.results, run.profile.name, cell.id)
        if kept:
            _settle(run.bench.results, cell)
        reason = report.longreprtext.strip().splitlines()[-1] if report.failed and report.longreprtext else ""
        journal.append(_journal(), "ended", cell=cell.id, record=kept, failed=report.failed, reason=reason)
    return report


def _settle(results: Path, cell: Cell) -> None:
    """Have the disk hold a cell's record and scores."""
    path = record_path(results, cell.profile.name, cell.id)
    for one in (path.parent / "scores" / f"{cell.id}.npz", path, path.parent / "scores", path.parent):
        if one.exists():
            sync(one)
