"""The grid of extractions: what was stolen against the budget, a row a defense and attack."""

from __future__ import annotations

from typing import Any

from suite.leaderboard import BLACK_BOX, Table
from suite.render_grids import NONE, Grid, Row, Text, fraction

_SHOWN = {
    "fidelity": "fidelity",
    "accuracy": "accuracy",
    "transfer_pgd": "PGD",
    "transfer_fgsm": "FGSM",
}


def extraction_grid(table: Table) -> Grid:
    """Fidelity, accuracy and transferred adversarial examples at every budget.

    An attack that asks for nothing gets the same whatever the budget, so it stands in every column.
    """
    frame = table.extraction
    budgets = sorted({int(b) for b in frame.budget if b > 0}) or [0]
    found: dict[tuple[str, str], dict[int, Row]] = {}
    for row in frame.to_dict("records"):
        named: dict[str, Any] = {str(name): value for name, value in row.items()}
        found.setdefault((named["defense"], named["attack"]), {})[int(named["budget"])] = named
    headers = ["defense, attack"]
    headers += [f"{shown}\n{budget:,}" for shown in _SHOWN.values() for budget in budgets]
    headers.insert(1 + len(budgets), f"over\n{BLACK_BOX}")
    rows = []
    for (defense, attack), points in found.items():
        texts = [Text(f"{defense}, {attack}")]
        texts += [_at(points, budget, name) for name in _SHOWN for budget in budgets]
        texts.insert(1 + len(budgets), fraction(points[max(points)], "excess_fidelity", sign="+"))
        rows.append(tuple(texts))
    return Grid("Extraction", tuple(headers), tuple(rows))


def _at(points: dict[int, Row], budget: int, name: str) -> Text:
    row = points.get(budget, points.get(0))
    return Text(NONE) if row is None else fraction(row, name)
