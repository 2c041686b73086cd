"""The records behind the published leaderboard: which get in, and how they get there.

``results/published`` is laid out as every results folder, with ``plugins/`` beside the records of plugins that are not
the tree's own. All that is shown can be computed again from what lies there, so raw scores always come along.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suite.foreign_source import Source
from suite.matrix import LATENCY
from suite.record import RecordError
from suite.records import read_records, write_atomic
from suite.store import Store
from suite.submission import Division, Item, Problem, Submission, read_loose
from suite.submission_bundle import read_bundle
from suite.submission_checks import new_sources
from suite.submitting import BUNDLE, judge

MAX_BYTES = 5_000_000
"""Of the whole folder: everybody who clones the project has it."""
GOALS = ("membership", LATENCY)
"""What the head of the leaderboard shows."""
_WHOLE_ROW = frozenset({"cells", "cell.seed"})
"""Fields whose problems lie with all cells of a defense, not with the one that is named."""


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the cells that were published, those that were taken out before, and why others were not."""

    cells: tuple[str, ...]
    removed: tuple[str, ...]
    refused: tuple[Problem, ...]


def publish(
    source: Path,
    target: Path,
    store: Store,
    *,
    plugins: Sequence[Path] = (),
    select: Sequence[str] = (),
    goals: Sequence[str] = GOALS,
    best: int | None = None,
    replace: bool = False,
) -> Published:
    """Copy the records of a results folder or bundle that are accepted as closed, with their raw scores.

    ``select``: patterns of ids, or of ``<profile>/<id>``, all when there are none; ``best``: of a defense only so many
    attacks, those of the highest AUC; ``replace``: first take out whatever is published of the same victim, data set,
    profile and board.

    Raises:
        RecordError: there is nothing to publish, or it would not fit; nothing was changed.
        Refused: the bundle cannot be read.
    """
    submission, problems = _read(source, plugins)
    if submission.division is not Division.CLOSED:
        raise RecordError(f"{source}: an open submission; only closed ones are published")
    verdict = judge(submission, problems, store)
    refused = _refused(submission, verdict.problems)
    wanted = [item for item in submission.items if item.file not in refused and _selected(item, select, goals)]
    if best is not None:
        wanted = _best(wanted, best)
    of_wanted = [p for p in verdict.problems if not submission.items or _concerns(p, submission, select, goals)]
    if not wanted:
        why = f": {of_wanted[0]}" if of_wanted else "; see --select and --goals"
        raise RecordError(f"{source}: no record to publish{why}")
    files = _files(wanted, submission)
    old = _old(target, wanted) if replace else []
    gone = [path for path in old if path.relative_to(target).as_posix() not in files]
    _refuse_too_large(target, files, gone)
    for name in sorted(files, key=lambda name: name.endswith(".json")):  # a record comes after its scores
        write_atomic(target / name, files[name])
    for path in gone:
        path.unlink(missing_ok=True)
    removed = tuple(path.stem for path in gone if path.suffix == ".json")
    return Published(tuple(item.record.cell.id for item in wanted), removed, tuple(of_wanted))


def size_bytes(folder: Path) -> int:
    """All files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _read(source: Path, plugins: Sequence[Path]) -> tuple[Submission, list[Problem]]:
    if source.suffix == BUNDLE:
        return read_bundle(source)
    if not source.is_dir():
        raise RecordError(f"{source}: no such results folder or bundle; pytest suite writes results/local")
    paths = sorted(path for path in source.glob("*/*.json") if not path.name.startswith("."))
    return read_loose(paths, plugins, Division.CLOSED, "")


def _refused(submission: Submission, problems: Iterable[Problem]) -> frozenset[str]:
    """Files that are not published: those with a problem, and all of a defense whose cells are not complete."""
    by_file = {item.file: item for item in submission.items}
    out = set()
    for problem in problems:
        if problem.file not in by_file:
            # Of a file that could not be read, or of a plugin: it concerns the cells that use it.
            out |= {item.file for item in submission.items if _uses_file(item, submission, problem.file)}
        elif problem.field in _WHOLE_ROW:
            row = _row(by_file[problem.file])
            out |= {item.file for item in submission.items if _row(item) == row}
        else:
            out.add(problem.file)
    return frozenset(out)


def _uses_file(item: Item, submission: Submission, file: str) -> bool:
    return any(file.endswith(f"/{source.file}") for source in _sources_of(item, submission))


def _sources_of(item: Item, submission: Submission) -> list[Source]:
    return new_sources(dataclasses.replace(submission, items=(item,)))


def _concerns(problem: Problem, submission: Submission, select: Sequence[str], goals: Sequence[str]) -> bool:
    """Whether a problem is of something that was to be published; of what cannot be read nobody knows."""
    items = [item for item in submission.items if item.file == problem.file]
    return not items or _selected(items[0], select, goals)


def _selected(item: Item, select: Sequence[str], goals: Sequence[str]) -> bool:
    record = item.record
    goal = LATENCY if record.latency is not None else record.threat.goal
    names = record.cell.id, f"{record.cell.profile}/{record.cell.id}"
    return goal in goals and (not select or any(fnmatch.fnmatchcase(n, one) for n in names for one in select))


def _row(item: Item) -> tuple[str, ...]:
    cell = item.record.cell
    return cell.profile, cell.victim, cell.dataset, cell.board, cell.defense


def _best(items: Sequence[Item], most: int) -> list[Item]:
    """Of each defense the attacks with the highest mean AUC over seeds, and all that is no membership attack."""
    areas: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        attack = item.record.attack
        if attack is not None and attack.metrics.auc is not None:
            areas[_row(item)][item.record.cell.measure].append(attack.metrics.auc.value)
    kept = {
        row: sorted(attacks, key=lambda name: (-sum(attacks[name]) / len(attacks[name]), name))[:most]
        for row, attacks in areas.items()
    }
    return [item for item in items if item.record.attack is None or item.record.cell.measure in kept[_row(item)]]


def _files(items: Sequence[Item], submission: Submission) -> dict[str, bytes]:
    """What is written, by its path in the published folder."""
    files: dict[str, bytes] = {}
    for item in items:
        cell = item.record.cell
        files[f"{cell.profile}/{cell.id}.json"] = item.text
        files[f"{cell.profile}/scores/{cell.id}.npz"] = item.packed
        for source in _sources_of(item, submission) if submission.plugins else ():
            files[f"{cell.profile}/plugins/{source.file}"] = submission.plugins[source.file]
    return files


def _old(target: Path, items: Sequence[Item]) -> list[Path]:
    """Published files of the tables that the new records belong to."""
    tables = {_row(item)[:4] for item in items}
    found = []
    for record in read_records(target)[0]:
        cell = record.cell
        if (cell.profile, cell.victim, cell.dataset, cell.board) in tables:
            folder = target / cell.profile
            found += [folder / f"{cell.id}.json", folder / "scores" / f"{cell.id}.npz"]
    return found


def _refuse_too_large(target: Path, files: dict[str, bytes], gone: Sequence[Path]) -> None:
    stays = {path for path in target.rglob("*") if path.is_file()} - set(gone) - {target / name for name in files}
    total = sum(path.stat().st_size for path in stays) + sum(map(len, files.values()))
    if total > MAX_BYTES:
        raise RecordError(
            f"{target} would have {total:,} bytes, at most {MAX_BYTES:,} are kept in the project: publish fewer cells"
            " (--best N keeps of each defense the N strongest attacks, --select those whose ids match)"
        )
