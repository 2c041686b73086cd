"""``leakboard compare`` and ``leakboard roc``: each takes the parsed options, returns the exit status."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from suite import roc_plot
from suite.comparing import Comparison, Place, Side, all_pairs, label, places, sides
from suite.pairing import of_candidates
from suite.record import METRICS, AttackScores, Record, RecordError
from suite.records import read_records, read_scores, write_atomic
from suite.registry import did_you_mean
from suite.worst_case import worst_cases

Add = Callable[[str, Callable[[Namespace], int], str], argparse.ArgumentParser]
_BEST = "each by its best attack, which is picked on the scored candidates and errs upwards on both sides"
_EACH = "95 % intervals hold for each difference by itself, not for all of them at once"
_WORST = (
    "picked: the best variant by AUC on the scored candidates, which errs upwards. crossed: picked on one half of the"
    " candidates and scored on the other, both ways; what an attacker has who must pick beforehand"
)


def add_compare(add: Add, default_results: str) -> None:
    """Add ``compare`` and ``roc`` to the command line."""
    sub = add("compare", run_compare, "differences between defenses on the same candidates, with paired intervals")
    sub.add_argument("defenses", nargs="*", help="two or more by short name, as darknetz_k2 (default: all)")
    sub.add_argument("--results", default=default_results, type=Path)
    sub.add_argument("--metric", default="auc", help=f"{', '.join(METRICS)} (default: %(default)s)")
    sub.add_argument("--attack", help="compare by this attack, by short name (default: each defense's best)")
    sub.add_argument("--worst-case", action="store_true", help="for each defense, the best of each attack's variants")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the differences as CSV")
    curves = add("roc", run_roc, "ROC curves as CSV and as a log-log figure")
    curves.add_argument("defenses", nargs="*", help="by short name (default: all)")
    curves.add_argument("--results", default=default_results, type=Path)
    curves.add_argument("--attack", help="this attack, by short name (default: each defense's best by AUC)")
    curves.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the operating points as CSV")
    curves.add_argument("--plot", type=Path, metavar="FILE", help="draw them: .svg, .pdf or .png (needs matplotlib)")


def run_compare(options: Namespace) -> int:
    """Print a table of differences a table of the leaderboard; 1 when nothing could be compared."""
    metric, results = options.metric, options.results
    words = label(metric)
    found: list[tuple[Place, list[Comparison]]] = []

    def scores_of(record: Record) -> AttackScores:
        return _scores(results, record)

    for place, records in _tables(results).items():
        title = f"{place[0]} on {place[1]} ({place[2]}, board {place[3]})"
        if options.worst_case:
            _print_worst(title, records, scores_of)
        chosen = _chosen(sides(records, metric, options.attack), options.defenses)
        if len(chosen) < 2:
            continue
        pairs = all_pairs(chosen, metric, scores_of)
        found.append((place, pairs))
        print(f"{words}, first minus second: {title}\n\n{_table(pairs)}\n")
    if options.output:
        write_atomic(options.output, _csv(found, metric).encode())
        print(f"written: {options.output}")
    if not found and not options.worst_case:
        raise RecordError(f"{results}: no table with two of the defenses to compare")
    if found:
        print(f"{'By ' + options.attack if options.attack else _BEST[0].upper() + _BEST[1:]}. {_EACH}.")
    return 0


def run_roc(options: Namespace) -> int:
    """Write curves; where neither file is named, print the CSV."""
    curves = []
    for records in _tables(options.results).values():
        for side in _chosen(sides(records, "auc", options.attack), options.defenses):
            for record in side.records.values():
                curves.append(roc_plot.curve(record, _scores(options.results, record)))
    if not curves:
        raise RecordError(f"{options.results}: no records of attacks on these defenses")
    if options.plot:
        roc_plot.draw(curves, options.plot)
        print(f"written: {options.plot}", file=sys.stderr)
    if options.output:
        write_atomic(options.output, roc_plot.as_csv(curves).encode())
        print(f"written: {options.output}", file=sys.stderr)
    if not options.plot and not options.output:
        sys.stdout.write(roc_plot.as_csv(curves))
    return 0


def _tables(results: Path) -> dict[Place, list[Record]]:
    records, problems = read_records(results)
    for problem in problems:
        print(f"leakboard: error: {problem}", file=sys.stderr)
    return places(records)


def _scores(results: Path, record: Record) -> AttackScores:
    return of_candidates(read_scores(results, record), record.cell.id)


def _chosen(found: Sequence[Side], names: Sequence[str]) -> list[Side]:
    """The sides of these names, in their order; all when there are none."""
    if not names:
        return list(found)
    by_name = {side.defense: side for side in found}
    for name in names:
        if name not in by_name:
            raise RecordError(f"no records of defense {name!r}{did_you_mean(name, by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)]


def _table(pairs: Sequence[Comparison]) -> str:
    rows = []
    for one in pairs:
        e = one.difference
        shown = (f"{e.value:+.3f}", f"{e.low:+.3f} to {e.high:+.3f}") if e else ("-", one.reason)
        sure = "yes" if e and (e.low > 0 or e.high < 0) else "no" if e else ""
        answers = one.ours.policy if one.ours.policy == one.theirs.policy else f"{one.ours.policy}/{one.theirs.policy}"
        names = [f"{side.defense} ({side.attack})" for side in (one.ours, one.theirs)]
        rows.append((*names, answers, len(one.seeds), *shown, sure))
    headers = ("first", "second", "answers", "seeds", "difference", "95 %", "without 0")
    return tabulate(rows, headers, disable_numparse=True)


def _print_worst(title: str, records: Sequence[Record], scores_of: Callable[[Record], AttackScores]) -> None:
    rows = [
        (one.defense, one.family, len(one.variants), len(one.seeds), one.variant, str(one.picked), str(one.crossed))
        for one in worst_cases(records, scores_of)
    ]
    headers = ("defense", "attack", "variants", "seeds", "best", "AUC picked", "AUC crossed")
    if rows:
        print(f"Worst case over variants: {title}\n\n{tabulate(rows, headers, disable_numparse=True)}\n\n{_WORST}.\n")


def _csv(found: Sequence[tuple[Place, Sequence[Comparison]]], metric: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ("victim", "dataset", "profile", "board", "metric", "first", "first_attack", "second", "second_attack",
         "n_seeds", "difference", "difference_low", "difference_high", "withheld")
    )  # fmt: skip
    for place, pairs in found:
        for one in pairs:
            e = one.difference
            figures = (e.value, e.low, e.high) if e else ("", "", "")
            names = (one.ours.defense, one.ours.attack, one.theirs.defense, one.theirs.attack)
            writer.writerow((*place, metric, *names, len(one.seeds), *figures, one.reason))
    return stream.getvalue()
