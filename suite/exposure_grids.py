"""The exposure of a table's defenses as grids of text, and the footnote to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from suite.likeness import OPEN_FROM
from suite.render_grids import NONE, Grid, Text, fraction

NOTE = (
    "Layer exposure (Mo et al. 2019, equation 4): the share of the generalization error that a layer is answerable for,"
    " measured with the owner's victim and members, and no attack of anybody's; the same for all defenses. Open: layers"
    f" whose filters lie in the public file (mean cosine of {OPEN_FROM:g} or more, so rounded and scaled ones count and"
    " shuffled and mixed ones do not; a share is shown where it is less). Highest E: picked among the open layers, it"
    " errs upwards; 0 where no layer is open, - where E has no meaning because the victim is not overfitted."
)


def exposure_grids(by_defense: pd.DataFrame, layers: pd.DataFrame) -> Iterator[Grid]:
    """One grid a measure with a row a defense, and one with a row a layer that tells where it lies open."""
    for measure in sorted(set(by_defense.measure)):
        mine = by_defense[by_defense.measure == measure]
        rows = tuple(_defense(row) for row in mine.to_dict("records"))
        headers = ("defense", "open\nlayers", "most exposed", "highest E", "mean E")
        yield Grid(f"Layer exposure ({measure})", headers, rows, frozenset({0, 2}))
        yield _by_layer(measure, list(mine.defense), layers[layers.measure == measure])


def _defense(row: Any) -> tuple[Text, ...]:
    most = row["most_exposed"]
    return (
        Text(str(row["defense"])),
        Text(f"{row['n_open']} of {row['n_layers']}"),
        Text(most if isinstance(most, str) else NONE),
        fraction(row, "most_exposure"),
        fraction(row, "mean_exposure"),
    )


def _by_layer(measure: str, defenses: list[str], layers: pd.DataFrame) -> Grid:
    cells: dict[Any, Any] = {(row["number"], row["defense"]): row for row in layers.to_dict("records")}
    rows = []
    for number in sorted(set(layers.number)):
        row = cells[number, defenses[0]]
        first = (Text(f"{number} {row['layer']}"), Text(f"{row['parameters']:,}"), fraction(row, "exposure"))
        rows.append(first + tuple(Text(_place(cells[number, defense])) for defense in defenses))
    headers = ("layer", "parameters", "E", *(f"open in\n{defense}" for defense in defenses))
    return Grid(f"Layer exposure by layer ({measure})", headers, tuple(rows))


def _place(row: Any) -> str:
    if row["is_open"]:
        return "open"
    return NONE if row["public_frac"] < 0.005 else f"{row['public_frac']:.2f}"
