"""What is known of one night: ``night.json``, rewritten whole whenever something changes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.nightly.folders import NIGHT, NightError
from suite.records import write_atomic

SCHEMA = 1
RUNNING, FINISHED, FAILED = "running", "finished", "failed"


@dataclass(slots=True)
class Night:
    """The state of a night; times are UTC, ISO 8601.

    ``options``: what it measures, which must be the same when it is called again. ``cells``: the ids asked for,
    ``done``: those with a record of this night, ``failed``: the others with the reason; a cell whose gate did not hold
    stands in both. ``attempts``: one object a run of the cells: ``number``, ``pid``, ``started_utc``, ``ended_utc``,
    ``ended_by``, ``log``. ``state``: "running" (or cut off), "finished" (all cells measured), "failed" (ended without).
    """

    board: str
    date: str
    options: Mapping[str, Any]
    started_utc: str
    schema: int = SCHEMA
    state: str = RUNNING
    finished_utc: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    health_before: Mapping[str, Any] | None = None
    health_after: Mapping[str, Any] | None = None
    health_samples: int = 0
    cells: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    resumed_utc: list[str] = field(default_factory=list)
    verdict: Mapping[str, Any] | None = None

    @property
    def missing(self) -> list[str]:
        """Cells that were asked for and have no record of this night."""
        done = set(self.done)
        return [name for name in self.cells if name not in done]

    def write(self, folder: Path) -> None:
        """Replace ``night.json``; what it says survives a power cut from here on.

        Raises:
            RecordError: the folder cannot be written.
        """
        write_durably(folder / NIGHT, (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode())


def read_night(folder: Path) -> Night | None:
    """The night in a folder; None where none was begun.

    Raises:
        NightError: ``night.json`` is damaged, or of another version.
    """
    path = folder / NIGHT
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") != SCHEMA:
            raise ValueError(f"schema {content.get('schema')!r} is not {SCHEMA}, the one this version reads")
        return Night(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise NightError(
            f"{path} cannot be read: {error}; remove that file to go on with the records beside it, or choose another"
            " --date"
        ) from error


def write_durably(path: Path, data: bytes) -> None:
    """As ``write_atomic``, and on the disk when it returns.

    Raises:
        RecordError: the folder cannot be written.
    """
    write_atomic(path, data)
    sync(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file or folder, where the file system can."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        return  # a file system without: what it does on a power cut is its own affair
    finally:
        os.close(opened)
