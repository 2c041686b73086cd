"""The exposure of a table's defenses as data frames: one row a defense, one row a layer of each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from suite.estimate import Estimate, over_seeds
from suite.record import ExposureInfo, Record

_FIGURES = ("most", "mean")
EXPOSURE_COLUMNS = (
    "defense", "measure", "n_seeds", "n_open", "n_layers", "most_exposed",
    *(column for name in _FIGURES for column in (f"{name}_exposure", f"{name}_exposure_low", f"{name}_exposure_high")),
)  # fmt: skip
LAYER_COLUMNS = (
    "defense", "measure", "number", "layer", "parameters", "exposure", "exposure_low", "exposure_high",
    "private_gap_nats", "reference_gap_nats", "public_frac", "is_open",
)  # fmt: skip


def exposure_frames(measured: Sequence[tuple[str, Sequence[Record]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames with ``EXPOSURE_COLUMNS`` and ``LAYER_COLUMNS``; ``measured``: records of exposure by defense.

    Figures are means over seeds, missing where any seed withholds its own. ``public_frac`` is the mean over seeds, and
    a layer is open when it is in any.
    """
    rows, layers = [], []
    for defense, records in measured:
        by_measure: dict[str, list[ExposureInfo]] = {}
        for record in records:
            if record.exposure is not None:
                by_measure.setdefault(record.cell.measure, []).append(record.exposure)
        for measure, found in sorted(by_measure.items()):
            place: dict[str, object] = {"defense": defense, "measure": measure}
            rows.append(place | _row(found))
            layers += [place | layer for layer in _layers(found)]
    return pd.DataFrame(rows, columns=EXPOSURE_COLUMNS), pd.DataFrame(layers, columns=LAYER_COLUMNS)


def _row(found: Sequence[ExposureInfo]) -> dict[str, object]:
    open_layers = [
        layer for layer in found[0].layers if any(one.layers[layer.number - 1].is_open for one in found)
    ]  # of the same network, so the layers are the same
    values = {layer.layer: layer.exposure.value for layer in open_layers if layer.exposure}
    cells: dict[str, object] = {
        "n_seeds": len(found),
        "n_open": len(open_layers),
        "n_layers": len(found[0].layers),
        "most_exposed": max(values, key=values.__getitem__) if values else None,
    }
    for name in _FIGURES:
        cells |= _spread(f"{name}_exposure", [getattr(one, name) for one in found])
    return cells


def _layers(found: Sequence[ExposureInfo]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for layers in zip(*(one.layers for one in found), strict=True):
        first, n = layers[0], len(layers)
        cells: dict[str, object] = {
            "number": first.number,
            "layer": first.layer,
            "parameters": first.parameters,
            "private_gap_nats": sum(one.private_gap_nats for one in layers) / n,
            "reference_gap_nats": sum(one.reference_gap_nats for one in layers) / n,
            "public_frac": sum(one.public_frac for one in layers) / n,
            "is_open": any(one.is_open for one in layers),
        }
        rows.append(cells | _spread("exposure", [one.exposure for one in layers]))
    return rows


def _spread(name: str, estimates: Sequence[Estimate | None]) -> dict[str, object]:
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates):
        return {}
    whole = over_seeds(known)
    return {name: whole.value, f"{name}_low": whole.low, f"{name}_high": whole.high}
