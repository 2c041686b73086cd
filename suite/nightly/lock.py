"""One night at a time on a board of this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import filelock

from device.cache import cache_root
from suite.nightly.folders import NightError, now_utc


@contextmanager
def board_lock(board: str, folder: Path) -> Iterator[None]:
    """Have the board, and the night's folder, for this night.

    The operating system releases a lock when its process ends, however it ends: none is left over by a power cut.

    Raises:
        NightError: another process has it; says which, since when, and for which folder.
    """
    home = cache_root() / "board"
    about = home / f"{board}-nightly.json"
    with ExitStack() as held:
        try:
            for path in (home, folder):
                path.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(_lock(home / f"{board}-nightly.lock"))
            except filelock.Timeout:
                raise NightError(f"a night runs on board {board} already: {_holder(about)}; wait for its end") from None
            try:
                held.enter_context(_lock(folder / ".lock"))
            except filelock.Timeout:
                raise NightError(f"another process, which has another cache, runs the night in {folder}") from None
            about.write_text(json.dumps({"pid": os.getpid(), "since": now_utc(), "folder": str(folder)}))
        except OSError as error:
            raise NightError(f"cannot lock a night in {home} and {folder}: {error.strerror}") from error
        held.callback(about.unlink, missing_ok=True)
        yield


def _lock(path: Path) -> AbstractContextManager[object]:
    return filelock.FileLock(path, thread_local=False).acquire(timeout=0)


def _holder(about: Path) -> str:
    try:
        found = json.loads(about.read_text())
        return f"process {found['pid']}, since {found['since']}, in {found['folder']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not said which"
