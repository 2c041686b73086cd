"""Build the site: read records, compute what is shown as the terminal does, write pages, data and scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from suite.leaderboard import Leaderboard, leaderboard
from suite.provenance import suite_version
from suite.record import Record, RecordError, Scores
from suite.records import read_records, read_scores
from suite.site.catalogue import Catalogue, Entry, catalogue
from suite.site.curves import roc_curves
from suite.site.files import SiteError, script, write_whole
from suite.site.history import add_nights, history_data, night_keys
from suite.site.pages import Pages, plotly_script
from suite.site.tables import index_data
from suite.site.theirs import CAVEAT, compared, published_data

DEFAULT_TITLE = "Leakboard"
_FEW = 3


@dataclass(frozen=True, slots=True)
class Built:
    """What went into a site; ``problems``: files that could not be used, a line each."""

    n_records: int
    n_night_records: int
    n_tables: int
    problems: tuple[str, ...]


def build(
    results: Path, folder: Path, *, title: str = DEFAULT_TITLE, history: Path | None = None, with_scores: bool = False
) -> Built:
    """Write the site of a results folder, and of nights if ``history`` is their folder, in place of an older one.

    ``with_scores`` copies raw scores beside the records.

    Raises:
        SiteError: there are no records, jinja2 or plotly is missing, or ``folder`` cannot be written.
    """
    records, damaged = read_records(results)
    found = catalogue(records, results)
    problems = list(damaged)
    if history is not None:
        add_nights(history, found, problems)
    if not found.entries:
        more = [f"and {len(problems) - _FEW:,} more like these"] if len(problems) > _FEW else []
        raise SiteError(
            "; ".join([f"no records in {results}", *problems[:_FEW], *more])
            + "; run 'pytest suite -k alexnet' first, or name the folder"
        )
    made = (
        f"Made by leakboard {suite_version()} from {len(records):,} records on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    pages, plotly = Pages.of(title, made), plotly_script()

    def scores_of(record: Record) -> Scores:
        return read_scores(results, record)

    board = leaderboard(records, scores_of, problems=problems)

    def fill(place: Path) -> None:
        said = list(board.problems)
        _write_data(place, board, found, scores_of, said)
        _write_pages(place, pages, board, found, list(dict.fromkeys(said)))
        for entry in found.entries:
            _write_record(place, pages, entry, with_scores)
        for name in sorted(one.name for one in (files("suite.site") / "static").iterdir()):
            _write(place / "assets" / name, (files("suite.site") / "static" / name).read_bytes())
        _write(place / "assets" / "plotly.min.js", plotly.encode())
        problems[:] = dict.fromkeys(said)

    write_whole(folder, fill)
    return Built(len(records), len(found.entries) - len(records), len(board.tables), tuple(problems))


def _write_data(place: Path, board: Leaderboard, found: Catalogue, scores_of: Any, problems: list[str]) -> None:
    data = index_data(board, found, night_keys(found)) | {
        "published": published_data(board) | {"compared": list(compared(board, found))},
        "nights": any(entry.night for entry in found.entries),
    }
    _write(place / "data" / "index.js", script("index", data).encode())
    if data["nights"]:
        _write(place / "data" / "history.js", script("history", history_data(found)).encode())
    for number, table in enumerate(board.tables):
        curves = roc_curves(table, found, scores_of, problems)
        _write(place / "data" / f"roc-{number}.js", script(f"roc-{number}", curves).encode())


def _write_pages(place: Path, pages: Pages, board: Leaderboard, found: Catalogue, problems: Sequence[str]) -> None:
    folders = {f"{entry.results}{os.sep}" for entry in found.entries}
    shown = [_without(problem, folders) for problem in problems]
    _write(place / "index.html", pages.render("index.html.j2", problems=shown))
    groups: dict[str, list[tuple[str, str]]] = {}
    for entry in found.entries:
        cell = entry.record.cell
        name = f"{cell.profile} on {cell.board}" + (f", night {entry.night}" if entry.night else "")
        groups.setdefault(name, []).append((cell.id, entry.address))
    _write(place / "records.html", pages.render("records.html.j2", groups=groups.items()))
    tables = published_data(board)["tables"]
    beside = _by_board(board, found, compared(board, found))
    _write(
        place / "published.html",
        pages.render("published.html.j2", tables=tables, compared=beside.items(), caveat=CAVEAT),
    )


def _without(text: str, folders: Iterable[str]) -> str:
    """A line for everyone: paths from the results folder on, since where that lies is nobody's business."""
    for folder in folders:
        text = text.replace(folder, "")
    return text


def _by_board(board: Leaderboard, found: Catalogue, rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Figures of theirs with ours, a list a board, since figures of two boards share no table."""
    by_board: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        table = board.tables[row["table"]]
        entries = [found.entries[place] for place in row["records"]]
        links = [(f"seed {entry.record.cell.seed}", entry.address) for entry in entries]
        more = {"place": f"{table.victim}, {table.dataset}", "profile": table.profile, "links": links}
        by_board.setdefault(table.board, []).append(row | more)
    return by_board


def _write_record(place: Path, pages: Pages, entry: Entry, with_scores: bool) -> None:
    """The record byte for byte, its page, and if asked for its raw scores.

    Raises:
        SiteError: the file changed while the site was built.
    """
    data = entry.source.read_bytes()
    target = place / entry.address
    scores_name = ""
    if with_scores and entry.record.scores is not None:
        try:
            read_scores(entry.results, entry.record)
        except RecordError:
            pass  # named among the problems where a figure needed it
        else:
            scores_name = f"scores/{target.stem}.npz"
            _write(target.parent / scores_name, (entry.source.parent / entry.record.scores.file).read_bytes())
    _write(target.with_suffix(".json"), data)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise SiteError(f"{entry.source} changed while the site was built: {error}; build it again") from error
    _write(target, pages.record(entry, value, scores_name))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
