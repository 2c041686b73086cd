"""What the process that measures tells the one that watches it: lines of JSON, each on the disk before the next."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from suite.nightly.folders import now_utc

ENV = "LEAKBOARD_NIGHT"
"""Names the journal, for ``suite.nightly.measuring``."""


def append(path: Path, event: str, **what: Any) -> None:
    """Add a line. One that a power cut left half-written is closed first."""
    line = json.dumps({"event": event, "at_utc": now_utc(), **what}) + "\n"
    with path.open("ab+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = "\n" + line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events after ``offset``, and the offset behind them; half-written lines are passed over."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    found = []
    for line in whole.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found, offset + len(whole)
