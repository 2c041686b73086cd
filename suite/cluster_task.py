"""What a worker of a cluster does with one task: see that it is the driver's twin, then train or measure."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from device.cache import cache_root
from device.emulated import EmulatedBoard
from suite import pool
from suite.engine import ClusterError
from suite.errors import EXPECTED
from suite.files import write_file
from suite.gates import GateError
from suite.matrix import Cell
from suite.model import LearningProgress
from suite.models import TrainJob
from suite.provenance import code_hash, hash_json
from suite.record import RecordError
from suite.records import read_record, record_path
from suite.registry import discover, load_file
from suite.run import Bench, run_attack_cell, victim_job
from suite.sameness import different_parts
from suite.store import Key, Store
from suite.tally import Job
from victims.training import Progress

TELL_EVERY_S = 1.0

Tell = Callable[[Progress | LearningProgress], None]
Files = Mapping[str, bytes]
"""Contents by path relative to a results folder."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A loose plugin file and the files it names beside it: contents by name. ``name`` is the file to load."""

    name: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class CellTask:
    """An attack cell, the TEE's memory limit in bytes, and the record that is there already, if any."""

    cell: Cell
    tee_limit_bytes: int
    files: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """One task: what to do (None: only see whether it could be done), in which store, and the keys it must come to.

    ``root`` is None where the node's own cache holds its part of the store. ``environment``: variables that results
    depend on. ``identity``: see ``Remote.identity``.
    """

    what: Job | CellTask | None
    root: str | None
    url: str | None
    identity: str | None
    plugins: tuple[Plugin, ...]
    environment: Mapping[str, str]
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: the error, if any, the last progress of a training, the files that a cell wrote."""

    error: Exception | None = None
    progress: Progress | LearningProgress | None = None
    files: Files = field(default_factory=dict)


def keys_of(what: Job | CellTask) -> tuple[Key, ...]:
    """What tells whether a task is the same on two machines: data, code and versions are in these keys."""
    if isinstance(what, CellTask):
        assert what.cell.attack is not None
        modules = (what.cell.defense.plugin.cls.__module__, what.cell.attack.plugin.cls.__module__)
        return victim_job(what.cell).key(), Key("cell", {"code": code_hash(*modules)})
    return (what.key(),) if isinstance(what, TrainJob) else (what.victim.key(), what.key())


def perform(body: bytes, send: Callable[[bytes], None]) -> bytes:
    """Do what a pickled ``Order`` says; the pickled ``Outcome``. ``send`` takes pickled progress meanwhile."""
    told = 0.0
    latest: Progress | LearningProgress | None = None

    def note(progress: Progress | LearningProgress) -> None:
        nonlocal told, latest
        latest = progress
        if time.monotonic() - told >= TELL_EVERY_S:
            told = time.monotonic()
            send(pickle.dumps(progress))

    error: Exception | None = None
    files: Files = {}
    try:
        order: Order = pickle.loads(body)
        store = _prepared(order)
        if isinstance(order.what, CellTask):
            error, files = _measure(order.what, store)
        elif order.what is not None:
            pool.do(store, order.what, note)
    except Exception as caught:
        error = caught
    if error is not None and not isinstance(error, EXPECTED):
        error.add_note("".join(traceback.format_exception(error)))  # which does not travel by itself
    return _pickled(Outcome(error, latest, files))


def _prepared(order: Order) -> Store:
    """Plugins loaded, and the store that the order speaks of.

    Raises:
        ClusterError: the node sees another store, or comes to other keys: other data, versions or plugins.
        PluginError, StoreError: see there.
    """
    os.environ.update(order.environment)
    torch.set_num_threads(1)
    discover()
    for plugin in order.plugins:
        load_file(_unpacked(plugin))
    store = Store(Path(order.root) if order.root else cache_root() / "store", order.url)
    if store.shared is not None and store.shared.identity() != order.identity:
        raise ClusterError(
            f"the store {store.shared.shown} is not the one that the run was started with: mount the same folder on"
            " every node, or take a store that is reached by network"
        )
    ours = keys_of(order.what) if order.what is not None else ()
    for mine, theirs in zip(ours, order.keys, strict=bool(ours)):
        if mine.digest != theirs.digest:
            raise ClusterError(
                f"a {mine.kind} would not be the same here: {different_parts(theirs.parts, mine.parts)}; give every"
                " node the same data, packages and kind of device"
            )
    return store


def _unpacked(plugin: Plugin) -> Path:
    """The plugin's files on this machine, in a folder of their content."""
    key = hash_json({name: hashlib.sha256(content).hexdigest() for name, content in plugin.files.items()})
    folder = cache_root() / "plugins" / key[:24]
    for name, content in plugin.files.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
    return folder / plugin.name


def _measure(task: CellTask, store: Store) -> tuple[Exception | None, Files]:
    """Measure a cell into a folder of its own; the files of its record, scores first, also where a gate failed."""
    with tempfile.TemporaryDirectory(prefix="leakboard-cell-") as name:
        results, error = Path(name), None
        for place, content in task.files.items():
            (results / place).parent.mkdir(parents=True, exist_ok=True)
            (results / place).write_bytes(content)
        try:
            run_attack_cell(task.cell, Bench(store, EmulatedBoard(task.tee_limit_bytes), results, workers=1))
        except GateError as failed:
            error = failed
        return error, read_files(results, task.cell)


def read_files(results: Path, cell: Cell) -> Files:
    """What a results folder holds of a cell: raw scores, then the record; empty where there is no whole record."""
    path = record_path(results, cell.profile.name, cell.id)
    try:
        record = read_record(path)
        places = [path.parent / record.scores.file] if record.scores else []
        return {str(place.relative_to(results)): place.read_bytes() for place in (*places, path)}
    except (RecordError, OSError):
        return {}


def _pickled(outcome: Outcome) -> bytes:
    """The outcome; an error that cannot travel becomes one of the kind that it is known as, or its text."""
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)
    except Exception:
        error = outcome.error
        known = next((kind for kind in EXPECTED if isinstance(error, kind)), None)
        plain = known(str(error)) if known else RuntimeError(f"{type(error).__name__}: {error}")
        return pickle.dumps(Outcome(plain, outcome.progress, outcome.files))
    return data
