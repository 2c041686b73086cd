"""Checking what was handed in, from files to verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from suite.foreign_source import read_sources
from suite.store import Store
from suite.submission import Division, Problem, Refused, Submission, read_loose
from suite.submission_bundle import read_bundle
from suite.submission_checks import check_always, used_sources
from suite.submission_division import check_closed

T = TypeVar("T")
BUNDLE = ".zip"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. ``problems``: why it is refused; ``differs``: why it is not closed, where it is open.

    ``notes``: what could not be compared here; ``look_at``: what a reviewer of the plugins should look at.
    """

    submission: Submission
    problems: tuple[Problem, ...]
    differs: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    look_at: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems


def read_all(
    files: Sequence[Path], plugins: Sequence[Path], division: Division, declared: str
) -> Iterator[tuple[Submission, list[Problem]]]:
    """Each bundle is a submission of its own; all other files, which are records, are one. A folder is all it holds."""
    loose: list[Path] = []
    for path in files:
        if path.is_dir():
            loose += sorted(one for one in path.glob("*/*.json") if not one.name.startswith("."))
        elif path.suffix != BUNDLE:
            loose.append(path)
    if loose:
        yield read_loose(loose, plugins, division, declared)
    for path in files:
        if path.suffix == BUNDLE and not path.is_dir():
            try:
                yield read_bundle(path)
            except Refused as error:
                yield Submission(path.as_posix(), ()), [error.problem]


def judge(submission: Submission, problems: Sequence[Problem], store: Store) -> Verdict:
    """Check what could be read; ``problems`` are those of reading. Runs and imports nothing of the submission."""
    found = [*problems, *check_always(submission)]
    notes: list[str] = []
    differs = list(check_closed(submission, store, notes.append))
    if submission.division is Division.CLOSED:
        found, differs = [*found, *differs], []
    elif not submission.declared.strip():
        way_out = "say with --declare what is not as in the closed division"
        found.append(Problem(submission.name, "declared", "an open submission that declares nothing", way_out))
    sources = used_sources(submission)
    look_at = [f"plugins/{source.file}: {line}" for source in sources for line in source.look_at]
    notes += [f"plugins/{file}: {why}" for file, why in read_sources(submission.plugins)[1]]
    return Verdict(submission, _once(found), _once(differs), _once(notes), _once(look_at))


def _once(found: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(found))
