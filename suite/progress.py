"""Telling the user what a long run is doing, past pytest's capturing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Sink = Callable[[str], None]

_sink: Sink | None = None


def tell(text: str) -> None:
    """Show one line of progress, or nothing where no sink is set (library use, tests)."""
    if _sink is not None:
        _sink(text)


def to_stderr(text: str) -> None:
    """A sink for command-line use."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def sink(target: Sink | None) -> Iterator[None]:
    """Send progress to ``target`` inside the block."""
    global _sink
    before, _sink = _sink, target
    try:
        yield
    finally:
        _sink = before


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
