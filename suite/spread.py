"""How much of a figure's uncertainty is another model and how much another sample of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from suite.estimate import Z95, Estimate


def columns(name: str) -> tuple[str, str]:
    """The columns of a metric's spread: standard deviation over models, mean standard error over candidates."""
    return f"{name}_models_sd", f"{name}_samples_se"


def spread(name: str, estimates: Sequence[Estimate | None]) -> Mapping[str, float]:
    """Both figures, under their column's names; without the first for one model, without both where one is withheld."""
    known = [one for one in estimates if one is not None]
    if not known or len(known) < len(estimates):
        return {}
    over_models, over_samples = columns(name)
    within = {over_samples: fmean((one.high - one.low) / 2 / Z95 for one in known)}
    return within | ({over_models: stdev(one.value for one in known)} if len(known) > 1 else {})
