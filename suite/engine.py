"""What trains models and measures cells in place of this process and its children: a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from suite.store import Store

if TYPE_CHECKING:
    from suite.matrix import Cell
    from suite.record import Record
    from suite.run import Bench
    from suite.tally import Job, Tally


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or a node of it cannot do its part; says which, and the way out."""


class Engine(Protocol):
    """Where work goes that this machine does not do itself."""

    def slots(self) -> int:
        """How many jobs run side by side, at present."""
        ...

    def train(self, store: Store, jobs: Sequence[Job], tally: Tally, plugins: Sequence[str]) -> dict[Job, Exception]:
        """Train all of ``jobs`` into the store; the errors of those that could not be."""
        ...

    def measured(self, cell: Cell, bench: Bench) -> Record | None:
        """The record of an attack cell once it is measured and written; None where the cell is not the engine's.

        Raises: as ``suite.run.run_attack_cell``.
        """
        ...
