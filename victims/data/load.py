"""The way to a data set: the cache, then the first source that answers with the right bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from victims.data import cache, catalogue, digits, local, progress
from victims.data.catalogue import Entry
from victims.data.dataset import Dataset
from victims.data.errors import CorruptFile, DataError, DataUnavailable, SourceFailed
from victims.data.sources import attempts, local_candidates, reasons_against_asking

LOCK_NOTICE_S = 2.0


def load(name: str) -> Dataset:
    """The data set ``name``, from the cache or the first source that has it, every byte verified.

    Raises:
        UnknownDataset: No such name.
        DataUnavailable: No source has it; one line for each source.
        DataError: The cache folder cannot be written.
    """
    return load_entry(catalogue.entry(name))


def availability(name: str) -> str | None:
    """None if ``name`` can probably be had (cached, in a local folder, or from the network), else the reason.

    Asks nobody: fast, and no promise. Raises :class:`UnknownDataset`.
    """
    entry = catalogue.entry(name)
    if entry.name == "digits" or cache.has(cache.folder(), name):
        return None
    return "; ".join(reasons_against_asking(entry)) or None


def load_entry(entry: Entry) -> Dataset:
    """As :func:`load`, of a catalogue entry."""
    if entry.name == "digits":
        return digits.load()
    home = cache.folder()
    found = _cached(home, entry, tell=False)
    if found is not None:
        return found
    cache.make(home)
    with _alone(home, entry.name):  # one process fetches, the others find it in the cache
        found = _cached(home, entry, tell=True)
        return _from_sources(home, entry) if found is None else found


def _cached(home: Path, entry: Entry, tell: bool) -> Dataset | None:
    """The cached data set if it is intact and still the one that the sources would give."""
    try:
        cached = cache.read(home, entry.name)
    except CorruptFile as error:
        if tell:
            progress.notice(f"{entry.name}: damaged in the cache, not used: {error.path}: {error.problem}")
        return None
    if cached is None:
        return None
    if entry.content is not None:
        return cached.dataset if cached.dataset.fingerprint == entry.content else None
    # Several contents are right (a subset, the full set): a local copy that appeared or changed since counts.
    candidates = [path for _, path in local_candidates(entry)]
    changed = bool(candidates) and cache.origin_of(candidates) != cached.origin
    return None if changed else cached.dataset


def _from_sources(home: Path, entry: Entry) -> Dataset:
    candidates = [path for _, path in local_candidates(entry)]
    origin = cache.origin_of(candidates)
    reasons = {} if candidates else {"local folder": local.reason_for_nothing(entry.containers)}
    scratch = home / f"{entry.name}.fetch"
    for attempt in attempts(entry, scratch):
        try:
            images, labels = attempt.decode()
            dataset = Dataset.from_arrays(entry.name, images, labels, entry.n_classes, attempt.source)
            if entry.content not in (None, dataset.fingerprint):
                raise SourceFailed(f"decodes to sha256 {dataset.fingerprint}, expected {entry.content}")
        except (DataError, OSError) as error:
            reasons[attempt.source] = str(error)
            progress.notice(f"{entry.name}: {attempt.source}: {error}")
            continue
        cache.write(home, dataset, origin)
        shutil.rmtree(scratch, ignore_errors=True)
        return dataset
    raise DataUnavailable(entry.name, reasons)


@contextmanager
def _alone(home: Path, name: str) -> Iterator[None]:
    lock = FileLock(home / f"{name}.lock")
    try:
        lock.acquire(timeout=LOCK_NOTICE_S)
    except Timeout:
        progress.notice(f"{name}: another process is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
