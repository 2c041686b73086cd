"""ROC curves of a table from stored raw scores, thinned to what a figure can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suite.leaderboard import ScoresOf, Table
from suite.metrics import MetricError
from suite.pairing import of_candidates
from suite.record import RecordError
from suite.roc_plot import curve
from suite.site.catalogue import Catalogue
from suite.site.tables import headline_cell, table_key

MOST_POINTS = 240


def roc_curves(table: Table, found: Catalogue, scores_of: ScoresOf, problems: list[str]) -> list[dict[str, Any]]:
    """Curves of every membership attack on every defense, one a seed.

    ``rates`` are the record's own metrics. ``fp`` and ``tp`` are counts, so that rates are exact: operating points from
    one false positive on (``suite.roc_plot.curve``), without those amid a level or upright run, and of the rest not
    more than ``MOST_POINTS``, evenly spread over the logarithm of the false positives; none is interpolated. A record
    whose scores cannot be read costs its curve.
    """
    return list(_curves(table, found, scores_of, problems))


def _curves(table: Table, found: Catalogue, scores_of: ScoresOf, problems: list[str]) -> Iterator[dict[str, Any]]:
    for row in table.attacks.to_dict("records"):
        for place in found.of(table_key(table), row["defense"], row["attack"]):
            record = found.entries[place].record
            try:
                scores = of_candidates(scores_of(record), record.cell.id)
                shown = curve(record, scores).roc
            except (RecordError, MetricError) as error:
                problems.append(str(error))
                continue
            members, others = int(scores.is_member.sum()), int((~scores.is_member).sum())
            fp, tp = np.rint(shown.fpr * others).astype(int), np.rint(shown.tpr * members).astype(int)
            kept = _thinned(fp, tp)
            metrics = record.attack.metrics if record.attack else None
            yield {
                "rates": [
                    headline_cell(name, getattr(metrics, name)) for name in ("auc", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3")
                ],
                "defense": row["defense"],
                "attack": row["attack"],
                "best": bool(row["best"]),
                "seed": record.cell.seed,
                "record": place,
                "members": members,
                "others": others,
                "fp": fp[kept].tolist(),
                "tp": tp[kept].tolist(),
            }


def _thinned(fp: NDArray[np.int_], tp: NDArray[np.int_]) -> Sequence[int]:
    """Positions to keep: all but those amid a level or upright run; and if too many, one a bin of log(fp)."""
    if len(fp) <= 2:
        return list(range(len(fp)))
    level, upright = np.diff(tp) == 0, np.diff(fp) == 0
    amid = (level[1:] & level[:-1]) | (upright[1:] & upright[:-1])
    kept = np.concatenate([[0], np.flatnonzero(~amid) + 1, [len(fp) - 1]])
    if len(kept) > MOST_POINTS:
        bins = np.floor(np.log(np.maximum(fp[kept], 1)) / np.log(max(int(fp[-1]), 2)) * (MOST_POINTS - 2)).astype(int)
        last = np.flatnonzero(np.diff(bins, append=bins[-1] + 1))  # the highest TPR of each bin
        kept = kept[np.unique(np.concatenate([[0], last]))]
    return [int(k) for k in kept]
