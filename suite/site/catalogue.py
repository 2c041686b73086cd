"""The records of a site: each with its page's address, found by table, defense and measure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suite.record import Record
from suite.site.files import safe_name

Key = tuple[str, str, str, str, str]
"""Victim, data set, profile, board, the board's mode: what tells one table from another."""


def key_of(record: Record) -> Key:
    """The table that a record belongs to, as ``suite.leaderboard`` groups them."""
    cell = record.cell
    return cell.victim, cell.dataset, cell.profile, cell.board, str(record.provenance.board.get("mode", ""))


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, the results folder it lies in, and the night it was measured in, "" for no night's."""

    record: Record
    results: Path
    night: str = ""

    @property
    def source(self) -> Path:
        """Its file."""
        return self.results / self.record.cell.profile / f"{self.record.cell.id}.json"

    @property
    def address(self) -> str:
        """Its page, relative to the site; the JSON lies beside it under the same name."""
        cell = self.record.cell
        night = f"nights/{safe_name(self.results.parent.name)}/{self.night}/" if self.night else "records/"
        return f"{night}{safe_name(cell.profile)}/{safe_name(cell.id)}.html"


@dataclass(slots=True)
class Catalogue:
    """Entries in a fixed order; a site's data name them by their place in it."""

    entries: list[Entry] = field(default_factory=list)
    _found: dict[tuple[Key, str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    _of_defense: dict[tuple[Key, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, entry: Entry) -> int:
        """Append an entry; its place."""
        place, cell, key = len(self.entries), entry.record.cell, key_of(entry.record)
        self.entries.append(entry)
        if not entry.night:
            self._found[key, cell.defense, cell.measure].append(place)
            self._of_defense[key, cell.defense].append(place)
        return place

    def of(self, key: Key, defense: str, measure: str | None = None) -> Sequence[int]:
        """Places of a table's records of a defense, of one measure or of all, by seed; none of any night."""
        found = (
            self._of_defense.get((key, defense), []) if measure is None else self._found.get((key, defense, measure))
        )
        return sorted(found or (), key=lambda place: self.entries[place].record.cell.seed)


def catalogue(records: Iterable[Record], results: Path) -> Catalogue:
    """A catalogue of the records of one folder."""
    found = Catalogue()
    for record in records:
        found.add(Entry(record, results))
    return found


def shows_of(found: Catalogue, places: Iterable[int]) -> str:
    """What deployments of these records show an attacker, as one text."""
    shown: Mapping[str, None] = {name: None for place in places for name in found.entries[place].record.threat.shows}
    return " + ".join(sorted(shown))
