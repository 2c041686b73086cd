"""Small files by which processes that share a machine know of each other."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class State:
    """What a boot leaves for other processes.

    ``digest``: of the image; ``mode``: of the machine; ``started``: seconds since the epoch; ``ready``: it came up.
    """

    port: int
    digest: str
    mode: str
    started: float
    ready: bool


def read_state(path: Path) -> State | None:
    """The state in a file; None when there is none, or it is not one."""
    try:
        return State(**(read(path) or {}))
    except TypeError:  # none, damaged, or written by another version
        return None


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write(path: Path, content: Mapping[str, object]) -> None:
    """Replace a file by a JSON object.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as aside:
        json.dump(content, aside)
    os.replace(aside.name, path)
