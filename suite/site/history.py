"""Nights: ordinary results folders, ``<folder>/<board>/<YYYY-MM-DD>``, and each cell's figures over them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.records import read_records
from suite.site.catalogue import Catalogue, Entry, Key, key_of
from suite.site.files import SiteError
from suite.site.tables import headline

_NIGHT = re.compile(r"\d{4}-\d{2}-\d{2}")


def nights(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each night and its results folder, by board and date.

    Raises:
        SiteError: there is no such folder, or no night in it.
    """
    if not folder.is_dir():
        raise SiteError(f"{folder}: no such folder of nights; --history takes <folder>/<board>/<YYYY-MM-DD>/<profile>")
    found = [(night.name, night) for night in sorted(folder.glob("*/*")) if night.is_dir() and _is_date(night.name)]
    if not found:
        raise SiteError(f"{folder} holds no night; --history takes <folder>/<board>/<YYYY-MM-DD>/<profile>/*.json")
    yield from found


def add_nights(folder: Path, found: Catalogue, problems: list[str]) -> None:
    """Add every record of every night to the catalogue, and a line a damaged file to ``problems``.

    Raises:
        SiteError: as ``nights``.
    """
    for night, results in nights(folder):
        records, damaged = read_records(results)
        problems += damaged
        for record in records:
            found.add(Entry(record, results, night))


def night_keys(found: Catalogue) -> list[Key]:
    """Tables that nights have records of."""
    return sorted({key_of(entry.record) for entry in found.entries if entry.night})


def history_data(found: Catalogue) -> dict[str, Any]:
    """One series a cell: its headline figure by night, with its interval and the record's address without ending.

    A figure that a record withholds is None there, a gap.
    """
    series: dict[tuple[Key, str], dict[str, Any]] = {}
    for entry in found.entries:
        if not entry.night:
            continue
        record, cell = entry.record, entry.record.cell
        field, name, estimate = headline(record)
        one = series.setdefault(
            (key_of(record), cell.id),
            {
                "key": list(key_of(record)),
                "cell": cell.id,
                "defense": cell.defense,
                "measure": cell.measure,
                "seed": cell.seed,
                "field": field,
                "figure": name,
                "points": [],
            },
        )
        figures = [estimate.value, estimate.low, estimate.high] if estimate else [None, None, None]
        one["points"].append([entry.night, *figures, entry.address.removesuffix(".html")])
    for one in series.values():
        one["points"].sort()
    return {"series": [series[key] for key in sorted(series)]}


def _is_date(name: str) -> bool:
    if not _NIGHT.fullmatch(name):
        return False
    try:
        datetime.date.fromisoformat(name)
    except ValueError:
        return False
    return True
