"""Training many models at once: one process a core, each on one thread, with progress for all."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from suite.engine import Engine
from suite.exposure import ExposureJob, measure_job
from suite.learning import LearnJob, learn_job
from suite.model import LearningProgress
from suite.models import TrainJob, train_job
from suite.registry import discover, load_file
from suite.store import Busy, Store, StoreError
from suite.tally import Tally
from victims.training import Progress

Job = TrainJob | LearnJob | ExposureJob
"""A model to train, what a defense learns about one, or how exposed a layer of one is."""


class TrainingStopped(RuntimeError):
    """A training process was killed from outside, as by the system when memory runs out."""


_failed: dict[tuple[Path, Job], Exception] = {}
"""Trainings that failed in this process: the next cell that needs one fails at once, and the same way."""


def ensure(store: Store, jobs: Iterable[Job], plugins: Sequence[str] = (), workers: int | Engine | None = None) -> None:
    """Train every job that the store does not have yet: the models, then what is learned and measured about them.

    One job runs on one thread, so that its result does not depend on the number of cores; jobs run side by side on
    the cores this process may use (one at a time on a GPU), or ``workers`` of them, or where an engine puts them.
    ``plugins`` are loose files that workers must import.

    Raises:
        Whatever a training raises, or StoreError for a damaged one, once all the others are trained.
        TrainingStopped: a training process was killed; the others go on from their checkpoints in the next run.
    """
    wanted = list(dict.fromkeys(jobs))
    errors = _ensure(store, [job for job in wanted if isinstance(job, TrainJob)], plugins, workers)
    lessons = [job for job in wanted if not isinstance(job, TrainJob)]
    # What a victim's training ended with is the error of all that would be learned about it.
    possible = [job for job in lessons if (store.root, job.victim) not in _failed]
    errors += _ensure(store, possible, plugins, workers)
    if not errors:
        errors = [_failed[store.root, job.victim] for job in lessons if job not in possible]
    if errors:
        raise errors[0]


def failure(store: Store, jobs: Iterable[Job]) -> Exception | None:
    """How the first of ``jobs``, or what it is about, failed in this process; None when none did."""
    needed = (one for job in jobs for one in (job if isinstance(job, TrainJob) else job.victim, job))
    return next((error for one in needed if (error := _failed.get((store.root, one)))), None)


def _ensure(store: Store, jobs: Sequence[Job], plugins: Sequence[str], workers: int | Engine | None) -> list[Exception]:
    missing, errors = list[Job](), list[Exception]()
    for job in jobs:
        try:
            if error := _failed.get((store.root, job)):
                errors.append(error)
            elif store.find(job.key()) is None:
                missing.append(job)
        except StoreError as error:
            errors.append(error)
    if missing:
        failed = _make(store, missing, plugins, workers)
        _failed.update({(store.root, job): error for job, error in failed.items()})
        errors.extend(failed.values())
    return errors


def _make(
    store: Store, missing: Sequence[Job], plugins: Sequence[str], workers: int | Engine | None
) -> dict[Job, Exception]:
    if workers is None:
        workers = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    if not isinstance(workers, int):
        return workers.train(store, missing, Tally(missing, min(workers.slots(), len(missing))), plugins)
    workers = min(workers, len(missing))
    # Workers of pytest-xdist have one each and share the work through the store's locks.
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) if workers == 1 else workers
    tally = Tally(missing, min(beside, len(missing)))
    return _one_by_one(store, missing, tally) if workers == 1 else _all(store, missing, tally, plugins, workers)


def do(store: Store, job: Job, note: Callable[[Progress | LearningProgress], None], *, wait: bool = True) -> None:
    """One job, in this process.

    Raises: as ``train_job``, ``learn_job`` and ``measure_job``.
    """
    if isinstance(job, LearnJob):
        learn_job(store, job, note, wait=wait)
    elif isinstance(job, ExposureJob):
        measure_job(store, job, note, wait=wait)
    else:
        train_job(store, job, note, wait=wait)


def _one_by_one(store: Store, jobs: Sequence[Job], tally: Tally) -> dict[Job, Exception]:
    """Train in this process; what another process is at is left for later, so that several share the work."""
    failed: dict[Job, Exception] = {}
    left = list(jobs)
    while left:
        busy = []
        for job in left:
            try:
                do(store, job, lambda p, job=job: tally.note(job, p), wait=False)  # type: ignore[misc]
            except Busy:
                busy.append(job)
            except Exception as error:
                failed[job] = error
                tally.fail(job, error)
            else:
                tally.finish(job)
        if len(busy) == len(left):
            tally.wait(busy)
            time.sleep(0.5)
        left = busy
    return failed


def _all(store: Store, jobs: Sequence[Job], tally: Tally, plugins: Sequence[str], workers: int) -> dict[Job, Exception]:
    """Train in worker processes."""
    failed: dict[Job, Exception] = {}
    context = multiprocessing.get_context("spawn")
    # Its put() writes before it returns: what a training told is here before its future is done.
    messages = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        workers, context, initializer=start_worker, initargs=(messages, list(plugins), os.getpid())
    )
    try:
        with interrupts_held():  # processes start as jobs come
            futures: dict[Future[None], Job] = {pool.submit(_work, store.root, store.url, job): job for job in jobs}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            while not messages.empty():
                tally.note(*messages.get())
            for future in done:
                job = futures[future]
                try:
                    future.result()
                except BrokenProcessPool:
                    raise TrainingStopped(
                        "a training process was killed; if memory ran out, use fewer cores (taskset -c 0 pytest ...)."
                        " The trainings go on from where they were"
                    ) from None
                except Exception as error:
                    failed[job] = error
                    tally.fail(job, error)
                else:
                    tally.finish(job)
    except BaseException:
        stop(pool)
        raise
    pool.shutdown()
    return failed


def stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now: what they trained so far is in checkpoints, what else they were at is lost."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it, since they inherit the mask.

    A terminal sends it to them as well, and each would print a traceback. This process stops them instead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_messages: Any = None


def start_worker(messages: Any, plugins: list[str], parent: int) -> None:
    """Begin a worker: plugins registered, one thread, an end with ``parent``'s. ``messages``: where progress goes."""
    global _messages
    _messages = messages
    torch.set_num_threads(1)
    _die_with(parent)
    discover()
    for path in plugins:
        load_file(Path(path))


def _die_with(parent: int) -> None:
    """Ask Linux to end this worker when its parent is killed, so that none is left training for nobody."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return  # not Linux: the worker ends with its current model
    if os.getppid() != parent:
        os._exit(1)  # it was killed before we asked


def _work(root: Path, url: str | None, job: Job) -> None:
    def note(progress: Progress | LearningProgress) -> None:
        _messages.put((job, progress))

    do(Store(root, url), job, note)
