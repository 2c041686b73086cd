"""Published figures to stand beside ours, never in one row with them."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Published:
    """The rows of one published table that are about a victim and data set.

    ``columns`` and ``rows`` as printed there (victim and data set, the same in every row, left out);
    ``notes``: what is known to be odd about the figures, and what the source leaves open.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of ``reference_data``; ``dataset`` is that of all rows; None: a column or nobody says it."""

    file: str
    dataset: str | None = None
    dataset_column: bool = False


_SOURCES = (
    _Source("cerias_gradient_mia.csv", dataset_column=True),
    _Source("cerias_output_mia.csv"),
    _Source("teeslice_mia.csv", dataset="cifar100"),
    _Source("cerias_memory_time.csv", dataset="cifar100"),
)


def published(victim: str, dataset: str) -> tuple[Published, ...]:
    """Published membership and cost figures for a victim on a data set; empty if there are none.

    A table that does not say which data set it is about is shown for every one, with a note.
    """
    found = []
    for source in _SOURCES:
        text = (files("suite") / "reference_data" / source.file).read_text(encoding="utf-8")
        lines = text.splitlines()
        comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        rows = [
            row
            for row in csv.DictReader(line for line in lines if not line.startswith("#"))
            if _same(row["victim"], victim)
            and (source.dataset is None or _same(source.dataset, dataset))
            and (not source.dataset_column or _same(row["dataset"], dataset))
        ]
        if not rows:
            continue
        columns = tuple(name for name in rows[0] if name not in ("victim", "dataset"))
        title, origin, notes = _split(comment)
        if source.dataset is None and not source.dataset_column:
            notes = (*notes, "The source does not name the data set of this table.")
        found.append(Published(title, origin, columns, tuple(tuple(r[c] for c in columns) for r in rows), notes))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class WholeTable(Published):
    """A whole published table, victim and data set among its columns; ``name`` is that of its file."""

    name: str


@functools.cache
def every_table() -> tuple[WholeTable, ...]:
    """Every published table that comes with the suite, whole, by the name of its file."""
    folder = files("suite") / "reference_data"
    found = []
    for file in sorted((one for one in folder.iterdir() if one.name.endswith(".csv")), key=lambda one: one.name):
        lines = file.read_text(encoding="utf-8").splitlines()
        title, origin, notes = _split(" ".join(line.lstrip("# ") for line in lines if line.startswith("#")))
        rows = list(csv.reader(line for line in lines if not line.startswith("#")))
        name = file.name.removesuffix(".csv")
        found.append(WholeTable(title, origin, tuple(rows[0]), tuple(map(tuple, rows[1:])), notes, name))
    return tuple(found)


def _same(theirs: str, ours: str) -> bool:
    return theirs.replace("_", "") == ours.replace("_", "")


def _split(comment: str) -> tuple[str, str, tuple[str, ...]]:
    """Title, source and remarks of a file's comment, ``<title>. Source: <source>. <remarks>``."""
    title, _, rest = comment.partition("Source:")
    if not rest:
        title, _, rest = comment.partition(". ")
        return title.strip().rstrip("."), "", (rest.strip(),) if rest.strip() else ()
    match = re.match(r"\s*(.+?)\.(?=\s+[A-Z\"]|\s*$)", rest)
    source = match[1] if match else rest.strip()
    remarks = rest[match.end() :].strip() if match else ""
    return title.strip().rstrip("."), source, (remarks,) if remarks else ()
