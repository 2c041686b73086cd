"""The process that runs a night's cells, and an eye on it: it can get stuck with its board, and is killed then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import suite
from suite.nightly import journal
from suite.nightly.folders import JOURNAL
from suite.nightly.measuring import ANSWERS_ENV, WATCHER_ENV

ROOT = Path(suite.__file__).resolve().parents[1]
STUCK, LATE = "stuck", "time limit"
_POLL_S = 0.25
_FAREWELL_S = 20.0


class Child:
    """One run of pytest over the cells of a night, leader of a process group of its own.

    ``options`` are pytest's, from the suite's plugin; results go to ``folder``, what it prints to ``log``.
    """

    def __init__(self, folder: Path, answers: Path, options: Sequence[str], log: Path) -> None:
        self.journal = folder / JOURNAL
        self._offset = self.journal.stat().st_size if self.journal.exists() else 0
        plugins = ("-p", "suite.plugin", "-p", "suite.nightly.measuring", "-p", "no:cacheprovider")
        command = [sys.executable, "-m", "pytest", str(ROOT / "suite"), *plugins, "--results", str(folder), *options]
        ours = {journal.ENV: str(self.journal), ANSWERS_ENV: str(answers), WATCHER_ENV: str(os.getpid())}
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | ours
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=ROOT,
                start_new_session=True,
            )

    def watch(
        self, on_event: Callable[[Mapping[str, Any]], None], stuck_s: float, until: float, busy: Callable[[], bool]
    ) -> int | str:
        """Wait for the end; what every event is, ``on_event`` is told.

        Returns pytest's exit status, or STUCK when no cell began or ended for ``stuck_s`` (training before the first
        cell may take its time), or LATE at ``until``, by ``time.monotonic``. ``busy``: asked when it looks stuck; while
        it says yes, the cell waits for somebody else's turn on the board.
        """
        last: float | None = None
        while True:
            status = self.process.poll()
            events, self._offset = journal.read(self.journal, self._offset)
            for event in events:
                on_event(event)
                if event["event"] in ("begun", "ended"):
                    last = time.monotonic()
            if status is not None:
                return status
            now = time.monotonic()
            if now > until:
                return LATE
            if last is not None and now - last > stuck_s:
                if not busy():
                    return STUCK
                last = now
            time.sleep(_POLL_S)

    def interrupt(self) -> None:
        """End it as Ctrl-C does, so that it closes its board; kill it where it does not listen."""
        try:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_FAREWELL_S)
        finally:  # also at a second Ctrl-C
            self.kill()

    def kill(self) -> None:
        """End it and all that it started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def end_orphan(pid: int, log_of: Path) -> bool:
    """Kill what is left of a run whose watcher was killed; True where there was something.

    ``pid`` may be another process's by now: it must have this night's journal in its environment.
    """
    mark = f"{journal.ENV}={log_of}".encode()
    try:
        if mark not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return False
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return False
    return True
