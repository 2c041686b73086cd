"""ROC curves for log-log plots: as far down as the non-members reach, as numbers and as a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suite.metrics import Roc, roc
from suite.plotting import new_figure, save
from suite.record import AttackScores, Record

CSV_COLUMNS = (
    "victim", "dataset", "profile", "board", "defense", "attack", "seed", "n_nonmembers", "fpr", "tpr", "threshold",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """The ROC of one cell from the lowest rate on that its non-members can show, 1 / ``n_nonmembers``.

    Operating points below (nobody accused wrongly) are left out: they are no evidence of any rate below that one.
    """

    record: Record
    n_nonmembers: int
    roc: Roc

    @property
    def label(self) -> str:
        """Defense, attack and seed."""
        cell = self.record.cell
        return f"{cell.defense}, {cell.measure}" + (f", seed {cell.seed}" if cell.seed else "")


def curve(record: Record, scores: AttackScores) -> Curve:
    """The part of a cell's ROC that may be shown.

    Raises:
        MetricError: the scores are none that a ROC is defined for.
    """
    whole, n = roc(scores.scores, scores.is_member), int((~scores.is_member).sum())
    shown = whole.fpr >= 1 / n - 1e-12
    return Curve(record, n, Roc(whole.thresholds[shown], whole.fpr[shown], whole.tpr[shown]))


def as_csv(curves: Iterable[Curve]) -> str:
    """One line an operating point, full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in curves:
        cell = one.record.cell
        place = (cell.victim, cell.dataset, cell.profile, cell.board, cell.defense, cell.measure, cell.seed)
        for fpr, tpr, threshold in zip(one.roc.fpr, one.roc.tpr, one.roc.thresholds, strict=True):
            writer.writerow((*place, one.n_nonmembers, float(fpr), float(tpr), float(threshold)))
    return stream.getvalue()


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A log-log figure (Carlini et al. 2022, figure 1), the diagonal dashed. Steps, never interpolated.

    Raises:
        PlotError: no matplotlib, or the file cannot be written.
    """
    figure, axes = new_figure(5.5, 4.2)
    least = 1 / max(one.n_nonmembers for one in curves)
    axes.plot([least, 1], [least, 1], linestyle="--", color="grey", linewidth=1, label="guessing")
    for one in curves:
        positive = one.roc.tpr > 0  # a logarithm has no place for the others
        fpr, tpr = np.append(one.roc.fpr[positive], 1.0), np.append(one.roc.tpr[positive], 1.0)
        axes.step(fpr, tpr, where="post", linewidth=1, label=one.label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, 1)
    axes.set_ylim(least, 1)
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    save(figure, path)
