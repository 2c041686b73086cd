"""The spread of a table's figures as a grid of text, and the footnote to it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from suite.leaderboard_notes import LABELS
from suite.record import METRICS
from suite.render_grids import NONE, Grid, Text
from suite.spread import columns

NOTE = (
    "Spread: first the standard deviation over models (seeds: victim, split and attacker anew), which holds the choice"
    " of candidates too; then the standard error within one model, from the candidates alone. Where the first is the"
    " larger, more seeds say more than more images."
)


def spread_grid(attacks: pd.DataFrame) -> Grid | None:
    """The spread of each defense's best attack; None where no defense has several models."""
    several = attacks[(attacks.n_seeds > 1) & attacks.best.astype(bool)]
    if several.empty:
        return None
    rows = []
    for row in several.to_dict("records"):
        who = [Text(str(row[name])) for name in ("defense", "attack", "n_seeds")]
        rows.append((*who, *(_both(row, name) for name in METRICS)))
    headers = ("defense", "best attack", "seeds", *(LABELS[name].replace(" at ", " at\n") for name in METRICS))
    return Grid("Spread over models / over candidates", headers, tuple(rows), frozenset({0, 1}))


def _both(row: Any, name: str) -> Text:
    values = [row[column] for column in columns(name)]
    return Text(" / ".join(NONE if value != value or value is None else f"{value:.3f}" for value in values))
