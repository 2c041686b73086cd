"""Attack cells worked on before their tests' turn, by other processes, so that a run keeps all cores busy.

What they make goes to the run's own store, whichever that is; the test itself then finds it there, or does again what
failed, and writes the record. Latency cells come after the last attack cell, on a machine that has nothing else to do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from device.emulated import EmulatedBoard
from suite import pool
from suite.matrix import Cell
from suite.progress import announce, duration
from suite.store import Store

if TYPE_CHECKING:
    from suite.run import Bench

WORTH_S, WORTH_CELLS = 8.0, 8
"""A cell that took its test this long was not in the store, and the next ones will not be either; for a few of them
it is not worth to start processes, which takes seconds."""
TELL_EVERY_S = 20.0


class Ahead:
    """Processes that work on ``cells`` in order, once :meth:`begin` is called.

    Nothing runs before a test finds that work is to be done: a run that finds all in the store starts no process.
    """

    def __init__(self, bench: Bench, cells: Sequence[Cell], workers: int) -> None:
        assert isinstance(bench.board, EmulatedBoard)
        self._store, self._plugins = bench.store, bench.plugins
        self._limit_bytes = bench.board.tee_limit_bytes()
        self._cells = list(cells)
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._futures: dict[str, Future[None]] = {}
        self._began = self._told = time.monotonic()

    def wait(self, cell: Cell) -> None:
        """Return when nobody works on the cell any more, and nobody will; tell how far all are meanwhile."""
        future = self._futures.get(cell.id)
        while future is not None and not future.done():
            with contextlib.suppress(TimeoutError):
                future.exception(timeout=0.5)
            if time.monotonic() - self._told >= TELL_EVERY_S:
                self._told = time.monotonic()
                announce(f"  {self._account()}  {cell.id}")

    def took(self, cell: Cell, seconds: float) -> None:
        """Its test took so long; begin with those that follow where that is worth it."""
        if cell in self._cells:
            del self._cells[: self._cells.index(cell) + 1]
        if self._pool is None and seconds >= WORTH_S and len(self._cells) >= WORTH_CELLS:
            self._begin()

    def close(self) -> None:
        """Stop; what is half done is done by whoever asks for it next."""
        if self._pool is not None:
            pool.stop(self._pool)
            self._pool = None

    def _begin(self) -> None:
        announce(f"{len(self._cells)} more attacks, {self._workers} side by side; what is found is kept for later runs")
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            self._workers, context, initializer=pool.start_worker, initargs=(None, list(self._plugins), os.getpid())
        )
        self._began = self._told = time.monotonic()
        with pool.interrupts_held():
            for cell in self._cells:
                self._futures[cell.id] = self._pool.submit(_reach, self._store, self._limit_bytes, cell)

    def _account(self) -> str:
        done, total = sum(future.done() for future in self._futures.values()), len(self._futures)
        if not done:
            return f"{done}/{total}"
        left = (time.monotonic() - self._began) / done * (total - done)
        return f"{done}/{total}  about {duration(max(left, 1.0))} left"


def _reach(store: Store, limit_bytes: int, cell: Cell) -> None:
    """Attack, and leave all that it comes to in the store. Errors are met again, and told, by the cell's test."""
    from suite.run import Bench, reach

    with contextlib.suppress(Exception):
        reach(cell, Bench(store, EmulatedBoard(limit_bytes), Path(os.devnull), workers=1))
