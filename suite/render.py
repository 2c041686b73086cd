"""The leaderboard as text for a terminal, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from suite import exposure_grids, spread_grid
from suite.leaderboard import Leaderboard, Table
from suite.records import write_atomic
from suite.render_extraction import extraction_grid
from suite.render_grids import Grid, Text, attack_grid, cost_grid, leak_grid, published_grids

WIDTH = 120
"""Columns of a terminal line."""

_GAP = "  "

EMPTY = "There are no results yet."


def terminal(board: Leaderboard, width: int = WIDTH) -> str:
    """Text for a terminal. Intervals stand under their figures; a grid too wide goes on below."""
    blocks: list[str] = [] if board.tables else [EMPTY]
    for table in board.tables:
        title = _title(table)
        blocks.append(f"{title}\n{'━' * len(title)}")
        blocks += [f"{grid.title}\n\n{_plain(grid, width)}" for grid in _grids(table)]
        blocks.append("\n".join(_wrapped(note, width) for note in _notes(table)))
        for grid, caption in published_grids(table):
            blocks.append(f"{textwrap.fill(grid.title, width)}\n\n{_plain(grid, width)}\n\n{_wrapped(caption, width)}")
    for heading, lines in _remarks(board):
        blocks.append("\n".join([heading, *(_wrapped(line, width) for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def markdown(board: Leaderboard) -> str:
    """GitHub-flavoured Markdown; intervals in brackets after their figures."""
    blocks = ["# Leaderboard", *([] if board.tables else [EMPTY])]
    for table in board.tables:
        blocks.append(f"## {_title(table)}")
        for grid in _grids(table):
            blocks += [f"### {grid.title}", _pipes(grid)]
        blocks.append("\n".join(f"- {_in_markdown(note)}" for note in _notes(table)))
        for grid, caption in published_grids(table):
            blocks += [f"### {_in_markdown(grid.title)}", _pipes(grid), _in_markdown(caption)]
    for heading, lines in _remarks(board):
        blocks += [f"## {heading}", "\n".join(f"- {_in_markdown(line)}" for line in lines)]
    return "\n\n".join(blocks) + "\n"


def latex(board: Leaderboard) -> str:
    r"""One ``table*`` a grid, for ``\usepackage{booktabs,graphicx}``; notes as LaTeX comments after each."""
    blocks = [r"% \usepackage{booktabs,graphicx}", *([] if board.tables else [f"% {EMPTY}"])]
    for table in board.tables:
        captioned = [(grid, f"{grid.title}: {_title(table)}.") for grid in _grids(table)]
        captioned += [(grid, f"{grid.title}. {caption}") for grid, caption in published_grids(table)]
        blocks += [_booktabs(grid, caption) for grid, caption in captioned]
        blocks.append("\n".join(f"% {note}" for note in _notes(table)))
    for heading, lines in _remarks(board):
        blocks.append("\n".join([f"% {heading}", *(f"% {line}" for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def csv(board: Leaderboard) -> str:
    """One line a defense and table, full precision, units in the column names; empty means not measured."""
    return _keyed(board, "defenses").to_csv(index=False, lineterminator="\n")


def attacks_csv(board: Leaderboard) -> str:
    """One line an attack on a defense."""
    return _keyed(board, "attacks").to_csv(index=False, lineterminator="\n")


def extraction_csv(board: Leaderboard) -> str:
    """One line an extraction, defense and budget."""
    return _keyed(board, "extraction").to_csv(index=False, lineterminator="\n")


def layers_csv(board: Leaderboard) -> str:
    """One line a layer of a defense whose exposure was measured."""
    return _keyed(board, "layers").to_csv(index=False, lineterminator="\n")


def as_json(board: Leaderboard) -> str:
    """Everything, as one object; null means not measured."""
    tables = [
        {
            **table.key,
            "defenses": _plain_rows(table.defenses),
            "attacks": _plain_rows(table.attacks),
            "extraction": _plain_rows(table.extraction),
            "exposure": _plain_rows(table.exposure),
            "layers": _plain_rows(table.layers),
            "notes": list(_notes(table)),
            "published": [dataclasses.asdict(p) for p in table.published],
        }
        for table in board.tables
    ]
    excluded = [{"cell": cell, "reason": reason} for cell, reason in board.excluded]
    value = {"tables": tables, "excluded": excluded, "problems": list(board.problems)}
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Leaderboard], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": csv,
    "json": as_json,
    "latex": latex,
}
"""Every way to write a leaderboard, by the name the command line gives it."""


def one_in_terminal(grid: Grid, caption: str, width: int = WIDTH) -> str:
    """One grid by itself, as ``terminal`` prints those of a leaderboard."""
    return f"{textwrap.fill(grid.title, width)}\n\n{_plain(grid, width)}\n\n{_wrapped(caption, width)}"


def one_in_markdown(grid: Grid, caption: str) -> str:
    """One grid by itself, as ``markdown`` prints those of a leaderboard."""
    return f"### {_in_markdown(grid.title)}\n\n{_pipes(grid)}\n\n{_in_markdown(caption)}"


def one_in_latex(grid: Grid, caption: str) -> str:
    """One grid by itself, as ``latex`` prints those of a leaderboard."""
    return _booktabs(grid, f"{grid.title}. {caption}")


GRID_FORMATS: Mapping[str, Callable[[Grid, str], str]] = {
    "terminal": one_in_terminal,
    "markdown": one_in_markdown,
    "latex": one_in_latex,
}
"""Every way to write one grid with its caption."""


def write_tables(board: Leaderboard, folder: Path) -> tuple[Path, ...]:
    """Write leaderboard.md, .csv, .json and .tex, leaderboard_attacks.csv and leaderboard_extraction.csv.

    Each is written at once or not at all; leaderboard_layers.csv too, where the exposure of layers was measured.

    Raises:
        RecordError: the folder cannot be written.
    """
    contents = {
        "leaderboard.md": markdown(board),
        "leaderboard.csv": csv(board),
        "leaderboard_attacks.csv": attacks_csv(board),
        "leaderboard_extraction.csv": extraction_csv(board),
        **({"leaderboard_layers.csv": layers_csv(board)} if any(len(table.layers) for table in board.tables) else {}),
        "leaderboard.json": as_json(board),
        "leaderboard.tex": latex(board),
    }
    for name, text in contents.items():
        write_atomic(folder / name, text.encode())
    return tuple(folder / name for name in contents)


def _title(table: Table) -> str:
    mode = f", {table.mode}" if "emulated time" in table.mode else ""
    return f"{table.victim} on {table.dataset} ({table.profile}, board {table.board}{mode})"


def _grids(table: Table) -> Iterator[Grid]:
    if len(table.attacks):
        yield leak_grid(table)
    yield cost_grid(table)
    if len(table.attacks):
        yield attack_grid(table)
    if len(table.extraction):
        yield extraction_grid(table)
    if (spread := spread_grid.spread_grid(table.attacks)) is not None:
        yield spread
    yield from exposure_grids.exposure_grids(table.exposure, table.layers)


def _notes(table: Table) -> tuple[str, ...]:
    spread = (spread_grid.NOTE,) if spread_grid.spread_grid(table.attacks) is not None else ()
    return (*table.notes, *spread, *([exposure_grids.NOTE] if len(table.exposure) else []))


def _remarks(board: Leaderboard) -> Iterator[tuple[str, list[str]]]:
    """Headed lists after all tables: cells left out, by reason, and damaged files."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for cell, reason in board.excluded:
        by_reason[reason].append(cell)
    if by_reason:
        yield "Not run", [f"{reason} ({', '.join(cells)})" for reason, cells in by_reason.items()]
    if board.problems:
        yield "Left out because of a problem", list(board.problems)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(grid: Grid, width: int) -> str:
    """The grid in as many pieces as the width asks for, the first column in front of each."""
    columns = [[header.split("\n"), *(_lines(row[i]) for row in grid.rows)] for i, header in enumerate(grid.headers)]
    sizes = [max(len(line) for cell in column for line in cell) for column in columns]
    pieces, used = [[0]], sizes[0]
    for i in range(1, len(columns)):
        if used + len(_GAP) + sizes[i] > width and len(pieces[-1]) > 1:
            pieces.append([0])
            used = sizes[0]
        pieces[-1].append(i)
        used += len(_GAP) + sizes[i]

    def line(piece: list[int], row: int, k: int) -> str:
        texts = (columns[i][row][k] if k < len(columns[i][row]) else "" for i in piece)
        pairs = zip(piece, texts, strict=True)
        return _GAP.join(t.ljust(sizes[i]) if i in grid.left else t.rjust(sizes[i]) for i, t in pairs).rstrip()

    def text(piece: list[int]) -> str:
        blocks = [
            [line(piece, row, k) for k in range(max(len(columns[i][row]) for i in piece))]
            for row in range(len(grid.rows) + 1)
        ]
        rule = _GAP.join("─" * sizes[i] for i in piece)
        return "\n".join([*blocks[0], rule, *(shown for block in blocks[1:] for shown in block)])

    return "\n\n".join(map(text, pieces))


def _lines(text: Text) -> list[str]:
    return [text.value, text.interval] if text.interval else [text.value]


def _alignment(grid: Grid, columns: list[int]) -> tuple[str, ...]:
    return tuple("left" if i in grid.left else "right" for i in columns)


def _pipes(grid: Grid) -> str:
    rows = [
        [_in_markdown(f"{t.value.strip()} ({t.interval})" if t.interval else t.value.strip()) for t in row]
        for row in grid.rows
    ]
    return tabulate(
        rows,
        headers=[_in_markdown(header.replace("\n", " ")) for header in grid.headers],
        tablefmt="pipe",
        colalign=_alignment(grid, list(range(len(grid.headers)))),
        disable_numparse=True,
    )


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\`*|<>])", r"\\\1", text)  # GitHub takes no underscore within a word for emphasis


def _booktabs(grid: Grid, caption: str) -> str:
    def cell(text: Text) -> str:
        value = _in_latex(text.value.strip())
        return rf"{value} {{\scriptsize {_in_latex(text.interval)}}}" if text.interval else value

    alignment = "".join("l" if i in grid.left else "r" for i in range(len(grid.headers)))
    lines = [" & ".join(cell(t) for t in row) + r" \\" for row in grid.rows]
    return "\n".join(
        [
            r"\begin{table*}",
            rf"\caption{{{_in_latex(caption)}}}",
            r"\centering",
            rf"\resizebox{{\ifdim\width>\textwidth\textwidth\else\width\fi}}{{!}}{{\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(_in_latex(header.replace("\n", " ")) for header in grid.headers) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
        ]
    )


def _in_latex(text: str) -> str:
    text = text.replace("\\", r"\textbackslash ")
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    return text.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}").replace("–", "--")


def _keyed(board: Leaderboard, frame: str) -> pd.DataFrame:
    frames = [getattr(table, frame).assign(**table.key) for table in board.tables]
    if not frames:
        return pd.DataFrame()
    keys = list(board.tables[0].key)
    joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
    for position, name in enumerate(keys):
        joined.insert(position, name, joined.pop(name))
    return joined


def _plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: NaN is null, NumPy scalars are numbers."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows
