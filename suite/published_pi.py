"""What a query would take on a Raspberry Pi 3B+, from what others have published about it. No measurement of ours.

The effective rate, multiply-accumulates a second, is that of ncnn's published latencies of known networks at 224x224,
over the multiply-accumulates of those networks; the power is published, too. Energy is time times power.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

NAME = "pi3bplus"
TITLE = "Raspberry Pi 3B+"
IDLE_W, FULL_W = 3.1, 5.6
"""Published power of the whole board, idle and with all cores busy."""
LEFT_OUT = (
    "world switches, copies between the worlds, opening sealed models, and what else a TEE adds, since nothing is"
    " published of it for a Pi; and operators without multiply-accumulates"
)
SOURCE = (
    f"published: ncnn's latencies on a {TITLE}, as multiply-accumulates a second; power {IDLE_W} W idle, {FULL_W} W at"
    " full load"
)
_TIMES, _WORK = "reference_data/pi3bplus_ncnn_ms.csv", "reference_data/pi3bplus_macs.csv"


@dataclass(frozen=True, slots=True)
class Span:
    """A figure, and the least and the most that the published networks make of it."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Span:
        """All three multiplied."""
        return Span(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, other: Span) -> Span:
        """Sums, end by end."""
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)


@functools.cache
def seconds_a_mac(precision: str, threads: int) -> Span:
    """Seconds for one multiply-accumulate, the geometric mean over the published networks and its extremes.

    Raises:
        ValueError: nothing was published of this precision ("fp32" or "int8") and number of threads (1 or 4).
    """
    column, work = f"{precision}_{threads}t", {row["model"]: row for row in _rows(_WORK)}
    found = [
        float(row[column]) / 1e3 / (float(work[row["model"]]["million_macs"]) * 1e6)
        for row in _rows(_TIMES)
        if row["model"] in work and row.get(column)
    ]
    if not found:
        raise ValueError(f"nothing is published of a {TITLE} with {precision} on {threads} threads")
    return Span(math.exp(float(np.mean(np.log(found)))), min(found), max(found))


def latency_s(ree_macs: int, tee_macs: int, int8_macs: int, threads: int = 1) -> Span:
    """Seconds of a query's convolutions and linear layers.

    ``threads`` are the normal world's; what is in the TEE runs on one. ``int8_macs`` of both worlds are int8, taken to
    be spread over them alike.
    """
    total = ree_macs + tee_macs
    share = int8_macs / total if total else 0.0
    found = Span(0.0, 0.0, 0.0)
    for macs, used in ((ree_macs, threads), (tee_macs, 1)):
        for precision, part in (("fp32", 1 - share), ("int8", share)):
            if macs and part:
                found = found.plus(seconds_a_mac(precision, used).times(macs * part))
    return found


def _rows(name: str) -> list[Mapping[str, str]]:
    lines = (files("suite") / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
