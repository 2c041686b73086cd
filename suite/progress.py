"""Telling the user what a long run is doing, past pytest's capturing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Sink = Callable[[str], None]

_sink: Sink | None = None
_patience_s = 0.0
_held: threading.Timer | None = None


def announce(text: str) -> None:
    """Show one line of progress, or nothing where no sink is set (library use, tests)."""
    settle()
    if _sink is not None:
        _sink(text)


def tell(text: str) -> None:
    """Show one line, but only if what it speaks of lasts longer than the sink's patience.

    It ends with the next ``tell`` or ``announce``, or with ``settle``.
    """
    global _held
    if not _patience_s:
        announce(text)
        return
    settle()
    if _sink is not None:
        _held = threading.Timer(_patience_s, _sink, (text,))
        _held.daemon = True
        _held.start()


def settle() -> None:
    """What was told last is over; if it was not shown yet, it never will be."""
    global _held
    if _held is not None:
        _held.cancel()
        _held = None


def to_stderr(text: str) -> None:
    """A sink for command-line use."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def sink(target: Sink | None, *, patience_s: float = 0.0) -> Iterator[None]:
    """Send progress to ``target`` inside the block; with ``patience_s``, it is called from other threads too."""
    global _sink, _patience_s
    before = _sink, _patience_s
    _sink, _patience_s = target, patience_s
    try:
        yield
    finally:
        settle()
        _sink, _patience_s = before


def counted(n: int, what: str) -> str:
    """A number of things in words: "1 cell", "2 cells"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``25 min`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
