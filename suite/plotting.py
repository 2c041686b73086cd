"""Figures by matplotlib, which is an optional extra: numbers go to CSV without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.estimate import Estimate

MISSING = "figures are drawn by matplotlib: pip install 'leakboard[plot]' (the numbers are in the CSV without it)"
_STYLE: Any = {"svg.hashsalt": "leakboard", "svg.fonttype": "none"}


class PlotError(ValueError):
    """A figure that cannot be drawn, and the way out."""


def new_figure(width_in: float = 5.0, height_in: float = 3.4) -> tuple[Any, Any]:
    """An empty figure and its axes, without a display.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError(MISSING) from None
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Any, path: Path) -> None:
    """Write the figure in the format that the name's ending asks for; equal figures give equal SVG files.

    Raises:
        PlotError: no such format, or the file cannot be written.
    """
    from matplotlib import rc_context

    date: Mapping[str, None] = {"Date": None} if path.suffix == ".svg" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(_STYLE):
            figure.savefig(path, metadata=date)
    except (ValueError, OSError) as error:
        raise PlotError(f"cannot write the figure {path}: {error}") from error


def draw_layers(series: Mapping[str, Sequence[Estimate | None]], names: Sequence[str], path: Path) -> None:
    """Exposure by layer, one line a series, bars for the intervals; gaps where a figure is withheld."""
    figure, axes = new_figure()
    for shift, (label, estimates) in enumerate(series.items()):
        found = [(place, e) for place, e in enumerate(estimates) if e is not None]
        at = [place + 0.06 * shift for place, _ in found]
        arms = [[e.value - e.low for _, e in found], [e.high - e.value for _, e in found]]
        axes.errorbar(at, [e.value for _, e in found], yerr=arms, marker="o", capsize=2, label=label)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_xlabel("layer")
    axes.set_ylabel("exposure E (equation 4)")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), max(1.0, axes.get_ylim()[1]))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)
