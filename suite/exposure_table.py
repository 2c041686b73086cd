"""Layer exposures as text and CSV, and which layers to hide by them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from suite.deploying import deploy
from suite.exposure import LayerExposure
from suite.graph.planner import plan_memory
from suite.model import Victim
from suite.registry import REGISTRY, Kind
from suite.spec import specify

CSV_COLUMNS = (
    "victim", "dataset", "seed", "number", "layer", "parameters", "exposure", "exposure_low", "exposure_high",
    "private_gap_nats", "reference_gap_nats", "withheld",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hiding:
    """A range of layers to hide, numbers from 1, and what is left in the normal world.

    ``most``: the highest exposure among the layers left outside, None when all are inside.
    """

    first: int
    last: int
    peak_bytes: int
    most: float | None


def table(joined: Sequence[LayerExposure], by_seed: Sequence[Sequence[LayerExposure]], seeds: Sequence[int]) -> str:
    """One row a layer; with several seeds each seed's figure beside the mean."""
    several = len(seeds) > 1
    header = ["layer", "", "parameters", "E", "95 %", *(f"seed {seed}" for seed in seeds if several)]
    rows = []
    for place, one in enumerate(joined):
        found = one.exposure
        shown = [f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}"] if found else ["-", ""]
        each = [e.exposure for e in (layers[place] for layers in by_seed)] if several else []
        singles = [f"{e.value:.3f}" if e else "-" for e in each]
        gaps = [f"{one.private_gap:.3f}", f"{one.reference_gap:.3f}"]
        rows.append([one.number, one.layer, f"{one.parameters:,}", *shown, *singles, *gaps])
    text = tabulate(
        rows,
        [*header, "gap M_p", "gap M_r"],
        disable_numparse=True,
        colalign=("right", "left", *["right"] * (len(header))),
    )
    reasons = dict.fromkeys(one.withheld for one in joined if one.withheld)
    return "\n".join([text, *(f'"-": {reason}.' for reason in reasons)])


def as_csv(victim: str, dataset: str, by_seed: Sequence[Sequence[LayerExposure]], seeds: Sequence[int]) -> str:
    """One line a seed and layer, full precision; empty means withheld."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for seed, layers in zip(seeds, by_seed, strict=True):
        for one in layers:
            e = one.exposure
            figures = (e.value, e.low, e.high) if e else ("", "", "")
            gaps = (one.private_gap, one.reference_gap, one.withheld)
            writer.writerow((victim, dataset, seed, one.number, one.layer, one.parameters, *figures, *gaps))
    return stream.getvalue()


def order_note(joined: Sequence[LayerExposure]) -> str:
    """Which layers are lowest and highest, in words."""
    found = [(one.exposure.value, one) for one in joined if one.exposure]
    if len(found) < len(joined):
        return ""
    ranked = sorted(found, key=lambda pair: (pair[0], pair[1].number))
    names = " < ".join(str(one.number) for _, one in ranked)
    return f"From the least to the most exposed: {names}."


def best_hiding(joined: Sequence[LayerExposure], victim: Victim, limit_bytes: int) -> Hiding | None:
    """The range of layers within the memory limit that leaves the least exposed layers outside; None if none fits.

    By the highest exposure that is left outside, then by the sum of what is, then by memory. Ranges are those that
    ``darknetz`` takes, one visit to the TEE a query; a layer whose exposure is withheld counts as not exposed.
    """
    plugin, n = REGISTRY.get(Kind.DEFENSE, "darknetz"), len(joined)
    value = [one.exposure.value if one.exposure else 0.0 for one in joined]
    ranked: list[tuple[tuple[float, float, int], Hiding]] = []
    for first in range(1, n + 1):
        for last in range(first, n + 1):
            outside = value[: first - 1] + value[last:]
            spec = specify(plugin, {"start": first, "end": last, "output": "probs"})
            peak = plan_memory(deploy(spec, victim).segments).peak_bytes
            if peak <= limit_bytes:
                most = max(outside, default=None)
                key = (-1.0 if most is None else most, sum(outside), peak)
                ranked.append((key, Hiding(first, last, peak, most)))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None
