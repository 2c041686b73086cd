"""Telling the user what is being fetched, on standard error or wherever the harness wants it."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

_stream: TextIO | None = None


def show_on(stream: TextIO | None) -> None:
    """Send progress to ``stream`` from now on (pytest captures standard error); ``None``: standard error."""
    global _stream
    _stream = stream


def notice(text: str) -> None:
    """Print one line."""
    print(text, file=_stream or sys.stderr, flush=True)


def bar(total: int | None, what: str, unit: str = "B", initial: int = 0) -> tqdm[Any]:
    """A progress bar; ``unit="B"`` counts bytes. In a log, not on a terminal, it moves every 5 seconds."""
    stream = _stream or sys.stderr
    return tqdm(
        total=total,
        initial=initial,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        file=stream,
        mininterval=0.2 if stream.isatty() else 5.0,
    )
