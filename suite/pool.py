"""Training many models at once: one process a core, each on one thread, with progress for all."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from suite.models import TrainJob, train_job
from suite.progress import duration, tell
from suite.registry import discover, load_file
from suite.store import Busy, Store
from victims.training import Progress

_TELL_EVERY_S = 10.0


def ensure(store: Store, jobs: Iterable[TrainJob], plugins: Sequence[str] = (), workers: int | None = None) -> None:
    """Train every job that the store does not have yet.

    One job runs on one thread, so that its result does not depend on the number of cores; jobs run side by side on
    the cores this process may use (one at a time on a GPU). ``plugins`` are loose files that workers must import.

    Raises:
        Whatever a training raises; the others are stopped, and go on from their checkpoints in the next run.
    """
    missing = [job for job in dict.fromkeys(jobs) if store.find(job.key()) is None]
    if not missing:
        return
    if workers is None:
        workers = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    workers = min(workers, len(missing))
    tell(f"training {len(missing)} models, {workers} at a time")
    if workers == 1:
        _one_by_one(store, missing)
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        messages: Any = manager.Queue()
        progress = _Board(missing, workers)
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(messages, list(plugins)))
        try:
            futures = {pool.submit(_work, store.root, job): job for job in missing}
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
                _drain(messages, progress)
                for future in done:
                    future.result()
                    progress.finish(futures[future])
        except BaseException:
            _stop(pool)
            raise
        pool.shutdown()


def _one_by_one(store: Store, jobs: Sequence[TrainJob]) -> None:
    """Train in this process; what another process is at is left for later, so that several share the work."""
    progress = _Board(jobs, 1)
    left = list(jobs)
    while left:
        busy = []
        for job in left:
            try:
                train_job(store, job, lambda p, job=job: progress.note(job, p), wait=False)  # type: ignore[misc]
            except Busy:
                busy.append(job)
            else:
                progress.finish(job)
        if len(busy) == len(left):
            time.sleep(0.5)
        left = busy


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: what they trained so far is in checkpoints."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


def _drain(messages: Any, progress: _Board) -> None:
    while True:
        try:
            job, note = messages.get_nowait()
        except queue.Empty:
            return
        progress.note(job, note)


_messages: Any = None


def _start_worker(messages: Any, plugins: list[str]) -> None:
    global _messages
    _messages = messages
    torch.set_num_threads(1)
    _die_with_parent()
    discover()
    for path in plugins:
        load_file(Path(path))


def _die_with_parent() -> None:
    """Ask Linux to end this worker when its parent is killed, so that none is left training for nobody."""
    import ctypes
    import signal

    with contextlib.suppress(OSError, AttributeError):  # not Linux: the worker ends with its current model
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _work(root: Any, job: TrainJob) -> None:
    train_job(Store(root), job, lambda progress: _messages.put((job, progress)))


class _Board:
    """What all trainings together have done, and how long they may still take."""

    def __init__(self, jobs: Sequence[TrainJob], workers: int) -> None:
        self._left: dict[TrainJob, float | None] = dict.fromkeys(jobs)
        self._latest: dict[TrainJob, Progress] = {}
        self._workers = workers
        self._total = len(jobs)
        self._started = time.monotonic()
        self._told = self._started

    def note(self, job: TrainJob, progress: Progress) -> None:
        self._left[job] = progress.seconds_left
        self._latest[job] = progress
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._told = time.monotonic()
            running = "; ".join(
                f"{job}: epoch {p.epoch}/{p.epochs}, loss {p.loss:.3f}" for job, p in self._latest.items()
            )
            tell(f"[{self._total - len(self._left)}/{self._total} trained] {running} | {self._estimate()}")

    def finish(self, job: TrainJob) -> None:
        self._left.pop(job, None)
        last = self._latest.pop(job, None)
        self._told = time.monotonic()
        accuracy = f", training accuracy {last.accuracy:.3f}" if last else ""
        tell(f"[{self._total - len(self._left)}/{self._total} trained] {job}: done{accuracy} | {self._estimate()}")

    def _estimate(self) -> str:
        finished = self._total - len(self._left)
        spent = time.monotonic() - self._started
        known = [left for left in self._left.values() if left is not None]
        waiting = len(self._left) - len(known)
        if not self._left:
            return f"all in {duration(spent)}"
        per_job = spent * self._workers / finished if finished else None
        if per_job is None and self._latest:
            per_job = max(p.seconds_left * p.epochs / max(1, p.epochs - p.epoch) for p in self._latest.values())
        seconds = (sum(known) + waiting * (per_job or 0.0)) / self._workers
        return f"about {duration(max(seconds, max(known, default=0.0)))} left"
