"""What somebody hands in: records with their raw scores, the source of their plugins, and what they declare of it.

Nothing here is run, imported or unpacked to disk: all of it comes from strangers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from suite.foreign_arrays import ArraysError, read_arrays
from suite.record import Record, RecordError, Scores
from suite.records import SCORES, from_json, to_json

MAX_RECORD_BYTES = 2**20
MAX_SCORES_BYTES = 8 * 2**20
MAX_PLUGIN_BYTES = 2**18
RUN_AGAIN = "run the cell again and hand in the record as it was written"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,199}")


class Division(StrEnum):
    """What may differ from the published leaderboard (docs/submissions.md)."""

    CLOSED = "closed"  # one defense or attack is new, all else is as this version has it
    OPEN = "open"  # anything, declared


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not accepted: which file, which field of it, what is wrong, and the way out."""

    file: str
    field: str
    what: str
    way_out: str

    def __str__(self) -> str:
        return printable(f"{self.file}: {self.field}: {self.what}; {self.way_out}")


class Refused(Exception):
    """A file that cannot even be read as what it should be."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Item:
    """One record of a submission, readable and with raw scores that are its own. ``file`` is its name in messages."""

    file: str
    text: bytes
    record: Record
    packed: bytes
    scores: Scores


@dataclass(frozen=True, slots=True)
class Submission:
    """All that was handed in at once. ``plugins``: source by file name; ``declared``: what differs, where it is open.

    ``beside``: (profile, cell id) of records that lie beside those handed in, and are not looked at themselves.
    """

    name: str
    items: tuple[Item, ...]
    plugins: Mapping[str, bytes] = field(default_factory=dict)
    division: Division = Division.CLOSED
    declared: str = ""
    beside: frozenset[tuple[str, str]] = frozenset()


def printable(text: str) -> str:
    """A stranger's text for a terminal: one line, nothing in it that a terminal or a log would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_item(file: str, text: bytes, scores_of: Callable[[str], bytes]) -> Item:
    """A record and its raw scores. ``file`` ends in ``<profile>/<cell id>.json``; ``scores_of`` reads a file beside it.

    Raises:
        Refused: either is not what this suite writes, or they do not belong together.
    """

    def refuse(where: str, what: str, way_out: str = RUN_AGAIN) -> Refused:
        return Refused(Problem(file, where, what, way_out))

    if len(text) > MAX_RECORD_BYTES:
        raise refuse("size", f"{len(text):,} bytes, a record has at most {MAX_RECORD_BYTES:,}")
    try:
        record = from_json(text.decode(), file)
        again = to_json(record).encode()
    except (RecordError, ValueError, OverflowError, RecursionError) as error:
        raise refuse("record", _short(str(error).removeprefix(f"{file}: "))) from error
    if again != text:
        raise refuse("record", f"not the text that this suite writes for it (line {_first_difference(again, text)})")
    cell, place = record.cell, PurePosixPath(file)
    if not (_FILE_NAME.fullmatch(cell.id) and _FILE_NAME.fullmatch(cell.profile)):
        raise refuse("cell.id", f"{_short(cell.id)!r} of {_short(cell.profile)!r} cannot be a file name")
    if (place.stem, place.parent.name) != (cell.id, cell.profile):
        raise refuse("cell.id", f"it belongs into {cell.profile}/{cell.id}.json", "put it there")
    if record.scores is None:
        raise refuse("scores", "null, so that no figure can be computed again")
    if record.scores.file != f"scores/{cell.id}.npz":
        raise refuse("scores.file", f"{_short(record.scores.file)!r}, not scores/{cell.id}.npz")
    packed = scores_of(record.scores.file)
    if len(packed) > MAX_SCORES_BYTES:
        raise refuse("scores.file", f"{len(packed):,} bytes, at most {MAX_SCORES_BYTES:,} are taken")
    if hashlib.sha256(packed).hexdigest() != record.scores.sha256:
        raise refuse("scores.sha256", f"{record.scores.file} is not the file that the record was made of")
    try:
        return Item(file, text, record, packed, read_arrays(packed, SCORES[record.outcome]))
    except ArraysError as error:
        raise refuse(record.scores.file, str(error)) from error


def read_loose(
    paths: Sequence[Path], plugins: Iterable[Path], division: Division, declared: str
) -> tuple[Submission, list[Problem]]:
    """Records as results folders have them; those of the paths that can be read, and why others cannot.

    Plugin sources are ``plugins`` and whatever lies in ``plugins/`` beside a record.
    """
    items: list[Item] = []
    problems: list[Problem] = []
    sources = list(plugins)
    for path in paths:
        try:
            text = _read(path, MAX_RECORD_BYTES, "record")
            at_home = path if path.parent.name not in ("", "..") else path.resolve()
            items.append(read_item(at_home.as_posix(), text, lambda name, at=path: _beside(at, name)))  # type: ignore[misc]
            sources += sorted((path.parent / "plugins").glob("*.py"))
        except Refused as error:
            problems.append(error.problem)
    found: dict[str, bytes] = {}
    for path in dict.fromkeys(path.resolve() for path in sources):
        try:
            found[path.name] = _read(path, MAX_PLUGIN_BYTES, "plugin")
        except Refused as error:
            problems.append(error.problem)
    folders = dict.fromkeys(path.parent.resolve() for path in paths)
    beside = frozenset((folder.name, one.stem) for folder in folders for one in folder.glob("[!.]*.json"))
    return Submission("records", tuple(items), found, division, declared, beside), problems


def _beside(path: Path, name: str) -> bytes:
    return _read(path.parent / name, MAX_SCORES_BYTES, "scores.file")


def _read(path: Path, most: int, what: str) -> bytes:
    """A file's content, no further than one byte beyond ``most``."""
    try:
        if path.is_symlink():
            raise Refused(Problem(path.as_posix(), what, "is a link", "hand in plain files"))
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        way_out = (
            "hand in the folder's scores/ with the record" if what == "scores.file" else "name a file that is there"
        )
        raise Refused(Problem(path.as_posix(), what, f"cannot be read: {error.strerror}", way_out)) from error
    if len(data) > most:
        raise Refused(Problem(path.as_posix(), what, f"more than {most:,} bytes", "hand in smaller files"))
    return data


def _first_difference(ours: bytes, theirs: bytes) -> int:
    mine, yours = ours.splitlines(), theirs.splitlines()
    return next((n for n, (a, b) in enumerate(zip(mine, yours, strict=False), 1) if a != b), min(len(mine), len(yours)))


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."
