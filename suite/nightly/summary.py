"""What a night came to, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from suite.nightly.comparing import ALPHA, Change, Verdict
from suite.nightly.night import FINISHED, Night
from suite.progress import counted

_HEADS = {
    "regression": "Regressions",
    "unrepeatable": "Changed though nothing that it depends on did",
    "improvement": "Improvements",
}
_SHOWN = {
    "temperature_c": "{:.1f} C", "throttled_now": "{}", "cpu_mhz": "{:.0f} MHz", "memory_free_mib": "{:.0f} MiB free",
    "optee": "OP-TEE {}", "clock_skew_s": "clock {:+.1f} s",
}  # fmt: skip


def markdown(night: Night, verdict: Verdict) -> str:
    """The summary of a night; regressions first."""
    blocks = [f"# Night of {night.date} on {night.board}", _state(night), _headline(verdict)]
    for kind, title in _HEADS.items():
        if found := verdict.of(kind):
            blocks += [f"## {title}", _changes(found)]
    if night.failed:
        rows = [(f"`{cell}`", _cell(reason)) for cell, reason in sorted(night.failed.items())]
        blocks += ["## Cells that failed", _table(rows, ("cell", "reason"))]
    notes = [f"no longer measured: `{name}`" for name in verdict.gone]
    notes += [f"new, with nothing to compare: `{name}`" for name in verdict.new]
    reasons = Counter(night.excluded.values())
    notes += [f"{counted(n, 'cell')} not run: {_cell(reason)}" for reason, n in reasons.items()]
    notes += [f"attempt {one['number']} ended by {one['ended_by']}" for one in _hurt(night)]
    notes += [f"called again at {at}, and gone on with" for at in night.resumed_utc]
    notes += [f"{name}: {_health(found)}" for name, found in _healths(night) if found]
    notes += [_cell(problem) for problem in verdict.problems]
    if notes:
        blocks += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(blocks) + "\n"


def _state(night: Night) -> str:
    how = "finished" if night.state == FINISHED else f"**{night.state}**"
    span = f"{night.started_utc} to {night.finished_utc or 'now'}"
    return f"{how}: {len(night.done)} of {len(night.cells)} cells measured, {len(night.failed)} failed; {span}."


def _headline(verdict: Verdict) -> str:
    if not verdict.nights:
        return "There is no night before it to compare with."
    found = {kind: len(verdict.of(kind)) for kind in _HEADS}
    counts = [f"{n} {kind}" if kind == "unrepeatable" else counted(n, kind) for kind, n in found.items()]
    last = f"{counted(len(verdict.nights), 'night')} before ({verdict.nights[0]} the last)"
    return (
        f"{verdict.tests} figures against the {last}: {', '.join(counts)}. The chance of any false alarm among them is"
        f" at most {100 * ALPHA:g} %."
    )


def _changes(found: Sequence[Change]) -> str:
    rows = [
        (
            f"`{one.cell}`", one.figure, f"{one.before} ({one.reference})", one.now, f"{one.difference:+.4g}",
            "-" if one.p is None else f"{one.p:.1g}", one.nights,
        )
        for one in found
    ]  # fmt: skip
    return _table(rows, ("cell", "figure", "before", "now", "difference", "p", "nights"))


def _table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _hurt(night: Night) -> list[Mapping[str, Any]]:
    return [one for one in night.attempts if one["ended_by"] not in (None, "pytest's exit status 0")]


def _healths(night: Night) -> list[tuple[str, Mapping[str, Any] | None]]:
    return [("board before", night.health_before), ("board after", night.health_after)]


def _health(found: Mapping[str, Any]) -> str:
    known = [form.format(found[name]) for name, form in _SHOWN.items() if found.get(name) not in (None, "")]
    unknown = dict(found.get("unknown") or {})
    return (", ".join(known) or "nothing known") + (f"; not known: {', '.join(unknown)}" if unknown else "")
