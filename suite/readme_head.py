"""The head of the published leaderboard: a short table in the README, between two marks, made of records alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from suite.leaderboard import Leaderboard, Table
from suite.leaderboard_cli import of_folder
from suite.record import RecordError
from suite.records import write_atomic
from suite.render import one_in_markdown
from suite.render_grids import NONE, Grid, Text, fraction, ratio

BEGIN, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"
MOST_TABLES, MOST_ROWS = 3, 20
HEADERS = (
    "defense", "answers", "best attack", "AUC", "TPR at 1 % FPR", "accuracy", "latency ratio", "TEE peak MiB",
)  # fmt: skip
_WORDS = frozenset({0, 1, 2})
_CAPTION = (
    "In brackets 95 % intervals. Best attack: of those that were run, the one with the highest AUC on what is scored,"
    " so it errs upwards. Latency: over vanilla, on board {board}; not a Raspberry Pi's unless it says so."
)
_ABOUT = (
    "All figures with their notes: `leakboard leaderboard {folder}`. `leakboard submit publish` writes these lines from"
    " the records in `{folder}`, and `pytest tests/test_published.py` computes every figure again from the raw scores"
    " beside them. [docs/submissions.md](docs/submissions.md) says how to hand in your own."
)


def head(published: Path, shown_as: str = "results/published") -> str:
    """The lines between the marks, made of the records under ``published``; ``shown_as`` is what they call the folder.

    Raises:
        RecordError: there are none, or one is damaged.
    """
    if not published.is_dir():
        raise RecordError(f"{published}: no records; publish some with leakboard submit publish RESULTS")
    board = of_folder(published)
    if board.problems:
        raise RecordError(f"{board.problems[0]}; take it out of {published}, or publish it anew")
    if not board.tables:
        raise RecordError(f"{published}: no records; publish some with leakboard submit publish RESULTS")
    blocks = [_block(table) for table in _first(board)]
    if (left := len(board.tables) - len(blocks)) > 0:
        blocks.append(f"And {left} more {'table' if left == 1 else 'tables'}.")
    return "\n\n".join([*blocks, _ABOUT.format(folder=shown_as)])


def _first(board: Leaderboard) -> list[Table]:
    """The largest tables, in their order."""
    largest = sorted(board.tables, key=lambda table: -len(table.defenses))[:MOST_TABLES]
    return [table for table in board.tables if any(table is one for one in largest)]


def _block(table: Table) -> str:
    rows = [_row({str(name): value for name, value in row.items()}) for row in table.defenses.to_dict("records")]
    # The bounds are the first and the last row, what lies between is ordered by leakage.
    kept = rows if len(rows) <= MOST_ROWS else [*rows[: MOST_ROWS - 1], rows[-1]]
    title = f"{table.victim} on {table.dataset} ({table.profile})"
    caption = _CAPTION.format(board=table.board)
    if len(kept) < len(rows):
        caption = f"{len(rows) - len(kept)} defenses that leak less are left out. {caption}"
    return one_in_markdown(Grid(title, HEADERS, tuple(kept), _WORDS), caption)


def _row(row: Mapping[str, Any]) -> tuple[Text, ...]:
    peak = row["tee_peak_bytes"] / 2**20
    return (
        Text(str(row["defense"])),
        Text(str(row["policy"])),
        Text(NONE if pd.isna(row["best_attack"]) else str(row["best_attack"])),
        fraction(row, "auc"),
        fraction(row, "tpr_at_fpr_1e2"),
        fraction(row, "accuracy_frac"),
        ratio(row, "latency_ratio"),
        Text(f"{peak:.2f}" if peak else NONE),
    )


def inside(text: str, readme: Path) -> str:
    """What stands between the marks of a README's ``text``.

    Raises:
        RecordError: there is not one of each, in this order, each on a line of its own.
    """
    before, after = _marks(text, readme)
    return "\n".join(text.split("\n")[before + 1 : after]).strip("\n")


def write_head(readme: Path, content: str) -> bool:
    """Put ``content`` between the marks of a README; whether that changed anything.

    Raises:
        RecordError: it cannot be read or written, or has not the two marks.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordError(f"{readme}: cannot be read: {reason}; name the README with --readme") from error
    before, after = _marks(text, readme)
    lines = text.split("\n")
    new = "\n".join([*lines[: before + 1], "", *content.split("\n"), "", *lines[after:]])
    if new == text:
        return False
    write_atomic(readme, new.encode())
    return True


def _marks(text: str, readme: Path) -> tuple[int, int]:
    lines = [line.strip() for line in text.split("\n")]
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise RecordError(f"{readme}: write the lines {BEGIN} and {END}, once each, where the leaderboard belongs")
    return lines.index(BEGIN), lines.index(END)
