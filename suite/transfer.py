"""How well what an attacker learns from models of one architecture carries over to victims of another."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from suite.estimate import Estimate, over_seeds
from suite.leaderboard import BLACK_BOX, WHITE_BOX
from suite.leaderboard_notes import LABELS
from suite.record import METRICS, Record
from suite.records import read_records
from suite.render import GRID_FORMATS
from suite.render_grids import NONE, Grid, Text, fraction

_Found = dict[tuple[str, str], dict[str, list[Record]]]

CAPTION = (
    "Rows: victims as deployed. Columns: architecture of the attacker's own models; * marks the one that gets most: the"
    " worst case, which an attacker who does not know the victim's architecture cannot pick."
)


def transfer_grids(records: Iterable[Record], attack: str, metric: str) -> Iterator[Grid]:
    """One a data set, profile and board: (victim, defense) by shadow architecture, as the CERIAS poster's second table.

    ``attack`` is the plugin's name; every variant of it that trains models of its own counts, by their architecture.
    Figures are means over seeds; "-" where nothing was run, or a seed withholds the metric.
    """
    groups: dict[tuple[str, str, str, str], _Found] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records:
        cell, found = record.cell, record.attack
        if found is None or found.shadow_architecture is None or cell.measure_spec.partition("[")[0] != attack:
            continue
        group = (cell.dataset, cell.profile, cell.board, str(record.provenance.board.get("mode", "")))
        own = groups[group][cell.victim, cell.defense][found.shadow_architecture]
        if all(other.cell.seed != cell.seed for other in own):  # the victim's architecture, also by its name
            own.append(record)
    for group in sorted(groups):
        dataset, profile, board, _ = group
        title = f"Transfer: {LABELS[metric]} of {attack} on {dataset} ({profile}, board {board})"
        yield _grid(title, groups[group], metric)


def _grid(title: str, found: _Found, metric: str) -> Grid:
    models = sorted({model for row in found.values() for model in row})
    rows = []
    for victim, defense in sorted(found, key=lambda key: (key[0], _place(key[1]), key[1])):
        estimates = {model: _over_seeds(found[victim, defense].get(model, []), metric) for model in models}
        values = {model: estimate.value for model, estimate in estimates.items() if estimate}
        best = max(values.values(), default=None)
        texts = [_text(estimates[model], values.get(model) == best and len(values) > 1) for model in models]
        rows.append((Text(victim), Text(defense), *texts))
    return Grid(
        title, ("victim", "defense", *(f"{model}\nshadows" for model in models)), tuple(rows), frozenset({0, 1})
    )


def _over_seeds(records: list[Record], metric: str) -> Estimate | None:
    found = [getattr(record.attack.metrics, metric) for record in records if record.attack]
    return over_seeds(found).within(0.0, 1.0) if found and None not in found else None


def _place(defense: str) -> int:
    return {WHITE_BOX: 0, BLACK_BOX: 2}.get(defense, 1)


def _text(estimate: Estimate | None, best: bool) -> Text:
    if estimate is None:
        return Text(NONE)
    shown = fraction({"m": estimate.value, "m_low": estimate.low, "m_high": estimate.high}, "m")
    return Text(shown.value + ("*" if best else " "), shown.interval)


def add_transfer(add: Callable[[str, object, str], argparse.ArgumentParser], results: str) -> None:
    """Add ``leakboard transfer``."""
    sub = add("transfer", transfer, "print how shadow models of one architecture do against victims of another")
    sub.add_argument("results", nargs="?", default=results, type=Path)
    sub.add_argument("--attack", default="shadow", help="whose variants to compare (default: %(default)s)")
    sub.add_argument("--metric", choices=METRICS, default="balanced_accuracy", help="default: %(default)s")
    sub.add_argument("--format", choices=sorted(GRID_FORMATS), default="terminal")


def transfer(options: Namespace) -> int:
    """Print the tables of a results folder; 1 when no record of the attack has models of its own."""
    records, problems = read_records(options.results)
    grids = list(transfer_grids(records, options.attack, options.metric))
    if not grids:
        print(
            f"leakboard: error: no records of {options.attack!r} in {options.results}"
            + "".join(f"\n  {problem}" for problem in problems)
            + f'\nrun pytest suite --attacks "{options.attack}[model=alexnet],{options.attack}[model=vgg7]" first,'
            " or name the folder",
            file=sys.stderr,
        )
        return 1
    for grid in grids:
        print(GRID_FORMATS[options.format](grid, CAPTION), end="\n\n")
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 0
