"""Looking at a board's health every so often while a night runs, into ``health.csv``."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from device.board import BoardError
from suite.nightly.folders import HEALTH
from suite.nightly.health import FIELDS, Health, nothing_known


class Sampler:
    """A thread that appends a line a sample; a context manager. ``taken`` counts them."""

    def __init__(self, folder: Path, read: Callable[[], Health], every_s: float) -> None:
        self.taken = 0
        self._path = folder / HEALTH
        self._read = read
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health of the board", daemon=True)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                found = self._read()
            except BoardError as error:
                found = nothing_known(" ".join(str(error).split()))
            append(self._path, found)
            self.taken += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=2.0)  # one that hangs in a question is a daemon, and ends with the process


def append(path: Path, health: Health) -> None:
    """Add a line; a new file gets a header. A field that could not be read is empty, ``unknown`` has the reasons."""
    new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(("at_utc", *FIELDS, "unknown"))
        values = (getattr(health, name) for name in FIELDS)
        reasons = "; ".join(dict.fromkeys(health.unknown.values()))
        writer.writerow((health.at_utc, *("" if value is None else value for value in values), reasons))
