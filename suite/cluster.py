"""Training and attack cells on a Ray cluster: the driver's side.

A task is a pickled ``Order`` (``suite.cluster_task``). What it makes goes into the store, under its content key; the
record of a cell comes back and is written here. A task whose worker or node was lost is handed out again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from device.board import BoardError
from suite import pool
from suite.cluster_task import CellTask, Order, Outcome, Plugin, keys_of, read_files
from suite.engine import ClusterError
from suite.errors import EXPECTED
from suite.matrix import Cell
from suite.pool import TrainingStopped
from suite.progress import announce, tell
from suite.provenance import files_beside
from suite.ray_tasks import LOCAL, Event, RayTasks, check_address
from suite.record import Record
from suite.records import read_record, record_path, write_atomic
from suite.run import Bench, training_jobs
from suite.sameness import identity
from suite.store import Store, StoreError
from suite.tally import Job, Tally
from victims.data import DataError

ATTEMPTS = 3
"""Workers that one task may lose before it counts as what kills them."""
_ENVIRONMENT = ("LEAKBOARD_PRECISION",)
_OF_A_NODE = (ClusterError, BoardError, DataError, StoreError)
_STALLED_S = 30.0


@dataclass(slots=True)
class _Task:
    """A task that is out: its order, and how many workers were given it."""

    what: Job | CellTask
    body: bytes
    attempts: int = 1


class Cluster:
    """An engine (``suite.engine``) of Ray tasks, each on one core. Close it in the end.

    Raises:
        ClusterError: Ray is not installed, there is no such cluster, the store is none that all nodes reach, or a node
            has not the code, versions and store that this process has.
        PluginError, StoreError: see there.
    """

    def __init__(self, address: str, store: Store, plugins: Sequence[str] = ()) -> None:
        check_address(address, store)
        self._store = store
        self._plugins = tuple(_packed(Path(path)) for path in plugins)
        self._numbers = itertools.count()
        self._out: dict[int, _Task] = {}
        self._measured: dict[Cell, Outcome] = {}
        self._cells: dict[Cell, int] = {}
        self._identity = store.shared.identity() if store.shared else None
        self._tasks = RayTasks(address, identity(), gpus=1 if torch.cuda.is_available() else 0)
        self._stalled = time.monotonic()
        try:
            if unfit := [error for end in self._tasks.probe(self._body(None)) if (error := self._ended(end).error)]:
                raise ClusterError("; ".join(map(str, unfit)))
        except BaseException:
            self._tasks.close()
            raise

    def close(self) -> None:
        """End all tasks and leave the cluster."""
        self._out.clear()
        self._tasks.close()

    def slots(self) -> int:  # noqa: D102  (see Engine)
        return max(1, self._tasks.slots())

    def train(self, store: Store, jobs: Sequence[Job], tally: Tally, plugins: Sequence[str]) -> dict[Job, Exception]:  # noqa: D102
        failed: dict[Job, Exception] = {}
        mine = {self._submit(job): job for job in jobs}
        try:
            while mine.keys() & self._out.keys():
                for number, outcome in self._outcomes(tally, mine):
                    job = mine.get(number)
                    if job is None:
                        continue
                    error = outcome.error or self._missing(store, job)
                    if outcome.progress is not None:
                        tally.note(job, outcome.progress)
                    if error is None:
                        tally.finish(job)
                    else:
                        failed[job] = error
                        tally.fail(job, error)
        except Exception:  # Ctrl-C ends the run, and leaving the cluster its tasks
            self._tasks.cancel(set(mine))
            self._out = {number: task for number, task in self._out.items() if number not in mine}
            raise
        return failed

    def begin(self, cells: Iterable[Cell], bench: Bench) -> None:
        """Hand out the attack cells whose models could be made, if the board is one that every node can build."""
        if bench.board.name != "emulated":
            return
        # First one cell of each deployment: the others of it find its answers in the store.
        places = Counter[tuple[tuple[str, str, str], int]]()
        turns: list[tuple[int, int, Cell]] = []
        for cell in cells:
            turns.append((places[cell.place, cell.seed], len(turns), cell))
            places[cell.place, cell.seed] += 1
        for _, _, cell in sorted(turns, key=lambda turn: turn[:2]):
            with contextlib.suppress(*EXPECTED):  # such a cell is left to this machine, where its test tells the error
                if cell.attack is not None and pool.failure(bench.store, training_jobs([cell], bench.store)) is None:
                    task = CellTask(cell, bench.board.tee_limit_bytes(), read_files(bench.results, cell))
                    self._cells[cell] = self._submit(task)

    def measured(self, cell: Cell, bench: Bench) -> Record | None:  # noqa: D102  (see Engine)
        number = self._cells.get(cell)
        if number is None:
            return None
        if cell not in self._measured:
            tell(f"{cell.id} is measured on the cluster, where {len(self._out)} tasks are under way or wait")
        while cell not in self._measured:
            self._outcomes(None, {})
        outcome = self._measured[cell]
        for place, content in outcome.files.items():
            path = bench.results / place
            if not path.is_file() or path.read_bytes() != content:
                write_atomic(path, content)
        if outcome.error is not None:
            raise outcome.error
        return read_record(record_path(bench.results, cell.profile.name, cell.id))

    def _submit(self, what: Job | CellTask) -> int:
        number = next(self._numbers)
        task = _Task(what, self._body(what))
        self._out[number] = task
        self._tasks.submit(number, task.body)
        return number

    def _body(self, what: Job | CellTask | None) -> bytes:
        shared = self._store.shared
        order = Order(
            what=what,
            root=None if shared else str(self._store.root),
            url=self._store.url,
            identity=self._identity,
            plugins=self._plugins,
            environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            keys=() if what is None else keys_of(what),
        )
        return pickle.dumps(order)

    def _outcomes(self, tally: Tally | None, jobs: dict[int, Job]) -> list[tuple[int, Outcome]]:
        """Tasks that ended, after a moment's wait; those of cells are also remembered. Lost ones are out again."""
        ended = []
        for event in self._tasks.events():
            self._stalled = time.monotonic()
            if event.kind == "note":
                if tally is not None and event.number in jobs:
                    tally.note(jobs[event.number], pickle.loads(event.data))
                continue
            outcome = self._outcome(event, self._out[event.number])
            if outcome is None:
                continue
            what = self._out.pop(event.number).what
            if isinstance(what, CellTask):
                self._measured[what.cell] = outcome
            ended.append((event.number, outcome))
        if time.monotonic() - self._stalled > _STALLED_S:
            self._stalled = time.monotonic()
            if self._tasks.slots() == 0:
                announce(f"  the cluster has no core; {len(self._out)} tasks wait until a node joins it")
        return ended

    def _outcome(self, event: Event, task: _Task) -> Outcome | None:
        """How the task ended, or None when it was lost and is out again."""
        name = task.what.cell.id if isinstance(task.what, CellTask) else str(task.what)
        if event.kind != "lost":
            return self._ended(event)
        if task.attempts == ATTEMPTS:
            return Outcome(
                TrainingStopped(
                    f"{name}: its worker was lost {ATTEMPTS} times, at last so: {event.text}; if memory ran out, let"
                    " nodes offer fewer cores (ray start --num-cpus)"
                )
            )
        task.attempts += 1
        announce(f"  {name}: its worker was lost ({event.text}); it is handed out again")
        self._tasks.submit(event.number, task.body)
        return None

    def _ended(self, event: Event) -> Outcome:
        """What came of a task; errors that lie in a node name it."""
        if event.kind != "done":
            return Outcome(ClusterError(event.text))
        found: Outcome = pickle.loads(event.data)
        of_the_node = next((kind for kind in _OF_A_NODE if isinstance(found.error, kind)), None)
        if of_the_node is None or self._tasks.address == LOCAL:
            return found
        return dataclasses.replace(found, error=of_the_node(f"node {event.node}: {found.error}"))

    def _missing(self, store: Store, job: Job) -> Exception | None:
        """What is wrong with the entry that a worker says it made."""
        try:
            if store.find(job.key()) is not None:
                return None
        except RuntimeError as error:
            return error
        place = store.shared.shown if store.shared else store.root
        return ClusterError(f"{job} was made, and {place} does not have it: is it the same store on every node?")


def _packed(path: Path) -> Plugin:
    """A loose plugin with the data files it names."""
    files = {name: (path.parent / name).read_bytes() for name in (path.name, *files_beside(path))}
    return Plugin(path.name, files)
