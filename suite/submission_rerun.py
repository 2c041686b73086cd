"""Evaluating what was handed in once more, here. This runs a stranger's code, so only ever by explicit choice."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from device.board import Board
from suite.boards import make_board
from suite.estimate import Estimate, wilson
from suite.gates import GateError
from suite.matrix import LATENCY, Cell
from suite.profiles import get_profile
from suite.record import Record
from suite.records import read_record, record_path
from suite.registry import Kind, load_file
from suite.run import Bench, run_attack_cell, run_latency_cell
from suite.store import Store
from suite.submission import Item, Problem, Submission
from suite.submission_checks import new_sources, the_spec
from suite.submission_division import limited_profile

SAME = 0.01
"""A share that differs by less is the same, whatever its interval: at 0 and 1 some have no width."""
_SLOWER = 0.25
"""By how much a ratio of times may differ on a machine of the same kind, intervals apart."""
_COUNTS = ("switches_per_query", "bytes_to_tee", "bytes_from_tee", "ree_macs", "tee_macs", "int8_macs")
_BYTES = ("ree_bytes", "tee_peak_bytes", "tee_planned_bytes")
_BYTES_TOLERANCE = 0.02
_WAY_OUT = "find out what differs, and hand in what anybody can measure"


@dataclasses.dataclass(frozen=True, slots=True)
class Rerun:
    """What a cell gave here. ``problems``: where it is not the same; ``note``: what may well differ."""

    cell: str
    problems: tuple[Problem, ...]
    note: str = ""


def warning(submission: Submission) -> str:
    """What the user is told before anything is run."""
    files = ", ".join(f"{source.file} (SHA-256 {source.sha256[:16]}...)" for source in new_sources(submission))
    if not files:
        return "--rerun: all plugins are this version's own; nothing of the submission is run"
    return (
        f"--rerun: WARNING: this runs code of strangers with all your rights on this machine: {files}. Do it where"
        " there is nothing to steal or to spoil, as in a container without network, and read the file first."
    )


def rerun(submission: Submission, board: str | None, store: Store, tell: Callable[[str], None]) -> Iterator[Rerun]:
    """Evaluate every cell here and compare. ``board`` instead of the one that the record names.

    Raises:
        PluginError: no such board, or a plugin cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="leakboard-rerun-") as scratch:
        loaded = []
        for source in new_sources(submission):
            path = Path(scratch) / source.file
            path.write_bytes(submission.plugins[source.file])
            load_file(path)
            loaded.append(str(path))
        boards: dict[tuple[str, float | None], Board] = {}
        try:
            for item in submission.items:
                limit = item.record.cost.tee_limit_bytes / 2**20 if board is None else None
                which = board or item.record.cell.board, limit
                if which not in boards:
                    boards[which] = make_board(*which)
                yield _again(item, Bench(store, boards[which], Path(scratch) / "results", tuple(loaded)), tell)
        finally:
            for one in boards.values():
                one.close()


def _again(item: Item, bench: Bench, tell: Callable[[str], None]) -> Rerun:
    theirs, results = item.record, bench.results
    try:
        cell = cell_of(item, bench.board.name)
        tell(f"evaluating {cell.id} again")
        try:
            ours = run_latency_cell(cell, bench) if cell.attack is None else run_attack_cell(cell, bench)
        except GateError:
            ours = read_record(record_path(results, cell.profile.name, cell.id))
    except Exception as error:  # a stranger's plugin may raise anything
        return _failed(item, error)
    same_machine = theirs.cell.board == ours.cell.board and theirs.provenance.machine.cpu == ours.provenance.machine.cpu
    problems = tuple(compare(item.file, theirs, ours))
    note = ""
    if theirs.latency is not None and ours.latency is not None:
        times = tuple(_latency(item.file, theirs.latency.ratio, ours.latency.ratio))
        problems, note = (problems + times, "") if same_machine else (problems, "; ".join(map(str, times)))
    return Rerun(theirs.cell.id, problems, note)


def _failed(item: Item, error: Exception) -> Rerun:
    what = f"failed here: {type(error).__name__}: {error}"
    return Rerun(item.record.cell.id, (Problem(item.file, "rerun", what, "mend the plugin, or name what it needs"),))


def cell_of(item: Item, board: str) -> Cell:
    """The cell of the matrix that a record is of, on a board.

    Raises:
        PluginError: a plugin or parameter does not exist here.
        ValueError: nor does the profile.
    """
    cell = item.record.cell
    attack = None if cell.measure_spec == LATENCY else the_spec(Kind.ATTACK, cell.measure_spec)
    profile = limited_profile(item, get_profile(cell.profile))
    victim, defense = the_spec(Kind.VICTIM, cell.victim), the_spec(Kind.DEFENSE, cell.defense_spec)
    return Cell(victim, cell.dataset, defense, attack, board, profile, cell.seed)


def compare(file: str, theirs: Record, ours: Record) -> Iterator[Problem]:
    """Where two records of one cell differ by more than their intervals; times apart."""

    def differ(field: str, one: object, other: object) -> Problem:
        return Problem(file, field, f"is {one}, here it came to {other}", _WAY_OUT)

    for field in ("policy", "shows"):
        if getattr(theirs.threat, field) != getattr(ours.threat, field):
            yield differ(f"threat.{field}", getattr(theirs.threat, field), getattr(ours.threat, field))
    for field in _COUNTS:
        if getattr(theirs.cost, field) != getattr(ours.cost, field):
            yield differ(f"cost.{field}", getattr(theirs.cost, field), getattr(ours.cost, field))
    for field in _BYTES if theirs.cell.board == ours.cell.board else ():
        one, other = getattr(theirs.cost, field), getattr(ours.cost, field)
        if abs(one - other) > _BYTES_TOLERANCE * max(one, other):
            yield differ(f"cost.{field}", one, other)
    for field, one, other in _estimates(theirs, ours):
        if (one is None) != (other is None) or (one is not None and other is not None and not agree(one, other)):
            yield differ(field, one, other)


def agree(one: Estimate, other: Estimate) -> bool:
    """Whether each lies in the other's interval, or both are all but equal."""
    inside = one.low <= other.value <= one.high and other.low <= one.value <= other.high
    return inside or abs(one.value - other.value) <= SAME


def _estimates(theirs: Record, ours: Record) -> Iterator[tuple[str, Estimate | None, Estimate | None]]:
    accuracies = (wilson(r.utility.accuracy_frac * r.task.n_test, r.task.n_test) for r in (theirs, ours))
    yield "utility.accuracy_frac", *accuracies  # type: ignore[misc]
    if theirs.attack and ours.attack:
        for name in ("auc", "balanced_accuracy", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3"):
            yield f"attack.metrics.{name}", getattr(theirs.attack.metrics, name), getattr(ours.attack.metrics, name)
    if theirs.exposure and ours.exposure:
        for name in ("most", "mean"):
            yield f"exposure.{name}", getattr(theirs.exposure, name), getattr(ours.exposure, name)
    if theirs.extraction and ours.extraction:
        pairs = zip(theirs.extraction.points, ours.extraction.points, strict=False)
        for place, (one, other) in enumerate(pairs):
            for name in ("accuracy", "fidelity"):
                yield f"extraction.points[{place}].{name}", getattr(one, name), getattr(other, name)


def _latency(file: str, theirs: Estimate, ours: Estimate) -> Iterator[Problem]:
    overlap = theirs.low <= ours.high and ours.low <= theirs.high
    if not overlap and abs(theirs.value - ours.value) > _SLOWER * theirs.value:
        yield Problem(file, "latency.ratio", f"is {theirs}, here it came to {ours}", _WAY_OUT)
