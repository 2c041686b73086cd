"""Where nights lie: ``<folder>/<board name>/<date>/``, each an ordinary results folder with a few files beside."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.record import RecordError

NIGHT, SUMMARY, HEALTH, JOURNAL = "night.json", "summary.md", "health.csv", "journal.jsonl"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class NightError(RecordError):
    """A night that cannot be begun, gone on with or read; names it and the way out."""


def parse_date(text: str) -> str:
    """A night's name, ``YYYY-MM-DD``.

    Raises:
        NightError: it is no date.
    """
    try:
        if not _DATE.fullmatch(text):
            raise ValueError(text)
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise NightError(f"--date {text!r}: write a date as 2026-01-31") from None


def night_folder(folder: Path, board: str, date: str) -> Path:
    """Where a night of that board and date lies, or would lie."""
    return folder / board / parse_date(date)


def nights_before(folder: Path, board: str, date: str, most: int) -> list[Path]:
    """The last nights before ``date`` that have a record, the newest first, at most so many."""
    home = folder / board
    if not home.is_dir():
        return []
    found = [path for path in home.iterdir() if path.is_dir() and _DATE.fullmatch(path.name) and path.name < date]
    having = (path for path in sorted(found, reverse=True) if any(path.glob("*/*.json")))
    return [path for path, _ in zip(having, range(most), strict=False)]


def now_utc() -> str:
    """ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``name: was X, is Y`` of what two sets of options do not share."""
    names = sorted({*before, *now})
    return [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names if before.get(name) != now.get(name)
    ]
