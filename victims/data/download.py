"""Resumable downloads from a data set's official address."""

from __future__ import annotations

import errno
import http.client
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from victims.data import progress
from victims.data.errors import SourceFailed

CONNECT_S = 5.0  # also the longest silence within a body
ANSWER_S = 10.0  # until the response's headers: covers name servers and every address of a host
WINDOW_S, WINDOW_BYTES = 60.0, 64 * 1024  # slower than this counts as stalled
ATTEMPTS = 3  # in a row without one new byte
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}

_silent_hosts: set[str] = set()


def answers(url: str) -> bool:
    """False if the host of ``url`` did not answer an earlier download of this process."""
    return urllib.parse.urlsplit(url).netloc not in _silent_hosts


def forget_silent_hosts() -> None:
    """Try hosts again that did not answer."""
    _silent_hosts.clear()


def fetch(url: str, target: Path) -> None:
    """Download ``url`` to ``target`` by way of ``target.part``, going on where an earlier try stopped.

    Raises:
        SourceFailed: The host does not answer, refuses, or stalls; what came so far is kept for the next try.
    """
    host = urllib.parse.urlsplit(url).netloc
    if not answers(url):
        raise SourceFailed(f"{host} did not answer earlier in this run")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures, answered = 0, False
    while failures < ATTEMPTS:
        before = _size(part)
        try:
            whole = _fetch_rest(url, part, target.name)
            problem = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or before == 0:
                raise SourceFailed(f"{url} answered {error.code} {error.reason}") from error
            whole = error.headers.get("Content-Range") == f"bytes */{before}"
            if not whole:
                part.unlink()  # no part of what the server has now
            problem = "the part fetched earlier does not fit"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in _DISK:
                raise SourceFailed(f"cannot write {part}: {error}") from error
            whole, problem = False, str(getattr(error, "reason", error)) or type(error).__name__
            if not answered and _size(part) == before:
                _silent_hosts.add(host)
                raise SourceFailed(f"{host} does not answer ({problem})") from error
        if whole:
            os.replace(part, target)
            return
        answered = True
        failures = 0 if _size(part) > before else failures + 1
    raise SourceFailed(f"{url} stopped answering at {_size(part):,} bytes ({problem})")


def _fetch_rest(url: str, part: Path, what: str) -> bool:
    """Append what is missing to ``part``; True if the whole file is there now."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with _open(request) as response:
        if start and response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server sends the whole file again
        if start and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            raise OSError(f"the server sent another range than asked for, {start}-")
        rest = response.headers.get("Content-Length")
        total = None if rest is None else start + int(rest)
        with (
            part.open("ab" if start else "wb") as stream,
            progress.bar(total, f"fetching {what}", initial=start) as bar,
        ):
            _copy(response, stream, bar)
    return total is None or _size(part) == total


def _copy(response: Any, stream: Any, bar: tqdm[Any]) -> None:
    window_at, in_window = time.monotonic(), 0
    while chunk := response.read1(1 << 18):
        stream.write(chunk)
        bar.update(len(chunk))
        in_window += len(chunk)
        if time.monotonic() - window_at > WINDOW_S:
            if in_window < WINDOW_BYTES:
                raise OSError(f"less than {WINDOW_BYTES // 1024} KiB in {WINDOW_S:.0f} s")
            window_at, in_window = time.monotonic(), 0


def _open(request: urllib.request.Request) -> Any:
    """The response to ``request``, at the latest after ``ANSWER_S``: no timeout bounds a name server."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(urllib.request.urlopen(request, timeout=CONNECT_S))
        except Exception as error:  # handed over to the caller below
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if not outcome:
        raise TimeoutError(f"no answer in {ANSWER_S:.0f} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
