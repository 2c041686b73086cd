"""What can go wrong on the way to a data set; every message names the thing, the place and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class DataError(RuntimeError):
    """Base of every error of this package."""


class UnknownDataset(DataError):
    """No data set has this name."""


class CorruptFile(DataError):
    """A file whose content is not what its checksum promises; it is never used."""

    def __init__(self, path: Path, problem: str, remedy: str = "delete it or fetch it again") -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}; {remedy}")


class SourceFailed(DataError):
    """One source did not answer, or answered with something unusable."""


class DataUnavailable(DataError):
    """No source had the data set.

    ``reasons`` maps each source that was tried, in order, to one line that says why it failed.
    """

    def __init__(self, name: str, reasons: Mapping[str, str]) -> None:
        self.name = name
        self.reasons = dict(reasons)
        lines = "".join(f"\n  {source}: {reason}" for source, reason in self.reasons.items())
        super().__init__(f"data set {name!r} cannot be had from any source:{lines}")


class PoolTooSmall(DataError):
    """A data set has fewer images than the splits ask for."""
