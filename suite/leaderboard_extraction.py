"""What every extraction got out of every defense, by budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from suite.estimate import Estimate, over_seeds
from suite.extraction_metrics import fidelity_excess
from suite.record import ExtractionPoint, Record, RecordError, Scores, StolenAnswers

EXTRACTION_METRICS = ("fidelity", "accuracy", "transfer_fgsm", "transfer_pgd")
EXTRACTION_COLUMNS = (
    "defense", "attack", "policy", "n_seeds", "budget", "n_queries",
    *(column for name in (*EXTRACTION_METRICS, "excess_fidelity") for column in (name, f"{name}_low", f"{name}_high")),
    "excess_over",
)  # fmt: skip

_Thefts = Mapping[str, Mapping[str, Sequence[Record]]]
"""Records of extractions by defense and attack, one a seed."""


def extraction_frame(
    order: Iterable[str], records: Sequence[Record], black_box: str, scores_of: Callable[[Record], Scores],
    problems: list[str],
) -> pd.DataFrame:  # fmt: skip
    """A row a defense (as in ``order``), attack and budget, with ``EXTRACTION_COLUMNS``.

    ``excess_fidelity`` stands in the row of an attack's largest budget: its fidelity above that of the extraction that
    gets most out of ``black_box`` under the same output policy, paired on the test images.
    """
    thefts: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.extraction is not None:
            thefts[record.cell.defense][record.cell.measure].append(record)
    boxes = _bounds(thefts, black_box)
    rows = [
        row
        for defense in order
        for attack in sorted(thefts.get(defense, ()))
        for row in _rows(thefts[defense][attack], boxes, black_box, scores_of, problems)
    ]
    return pd.DataFrame(rows, columns=EXTRACTION_COLUMNS)


def _bounds(thefts: _Thefts, black_box: str) -> dict[str, Sequence[Record]]:
    """By policy, the records of the extraction with the highest fidelity out of the black box at its largest budget."""
    best: dict[str, tuple[float, Sequence[Record]]] = {}
    for defense in sorted(thefts):
        for attack in sorted(thefts[defense]):
            records = thefts[defense][attack]
            if _base(records[0]) == black_box:
                value = over_seeds([_last(record).fidelity for record in records]).value
                policy = records[0].threat.policy
                if policy not in best or value > best[policy][0]:
                    best[policy] = value, records
    return {policy: records for policy, (_, records) in best.items()}


def _rows(
    records: Sequence[Record], boxes: Mapping[str, Sequence[Record]], black_box: str,
    scores_of: Callable[[Record], Scores], problems: list[str],
) -> Iterable[dict[str, object]]:  # fmt: skip
    first = records[0]
    by_budget: dict[int, list[ExtractionPoint]] = defaultdict(list)
    for record in records:
        for point in record.extraction.points if record.extraction else ():
            by_budget[point.budget].append(point)
    box = boxes.get(first.threat.policy)
    for budget in sorted(by_budget):
        points = by_budget[budget]
        row: dict[str, object] = {
            "defense": first.cell.defense,
            "attack": first.cell.measure,
            "policy": first.threat.policy,
            "n_seeds": len(points),
            "budget": budget,
            "n_queries": max(point.n_queries for point in points),
        }
        for name in EXTRACTION_METRICS:
            found = [getattr(point, name) for point in points]
            if None not in found:
                row |= _spread(name, over_seeds(found).within(0.0, 1.0))
        if budget == max(by_budget) and box and _base(first) != black_box:
            excess = _excess(records, box, scores_of, problems)
            if excess:
                row |= _spread("excess_fidelity", excess.within(-1.0, 1.0))
                row["excess_over"] = f"{box[0].cell.defense}/{box[0].cell.measure}"
        yield row


def _excess(
    records: Sequence[Record], box: Sequence[Record], scores_of: Callable[[Record], Scores], problems: list[str]
) -> Estimate | None:
    theirs = {record.cell.seed: record for record in box}
    found = []
    for record in records:
        other = theirs.get(record.cell.seed)
        if other is None:
            continue
        try:
            ours, bound = scores_of(record), scores_of(other)
            if not isinstance(ours, StolenAnswers) or not isinstance(bound, StolenAnswers):
                raise RecordError(f"{record.cell.id} and {other.cell.id}: no answers of stolen models")
            if not set(ours.images) & set(bound.images):
                raise RecordError(f"{record.cell.id} and {other.cell.id} have no test images in common")
            found.append(fidelity_excess(ours, bound))
        except RecordError as error:
            problems.append(str(error))
    return over_seeds(found) if found else None


def _last(record: Record) -> ExtractionPoint:
    assert record.extraction is not None
    return record.extraction.points[-1]


def _base(record: Record) -> str:
    return record.cell.defense_spec.partition("[")[0]


def _spread(name: str, estimate: Estimate) -> dict[str, object]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
