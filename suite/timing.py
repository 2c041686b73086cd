"""Measuring what hiding costs: vanilla and the protected deployment in turns, in one session each, in one run."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from device.board import Board, DeploymentFiles, Timings
from suite.record import LatencySamples

BURST = 4
"""Queries a turn. The first finds the caches full of the other deployment's weights and is dropped."""


class LatencyMeter:
    """Two open sessions and the times taken so far. A context manager; ``image`` is float32 [C, H, W]."""

    def __init__(
        self, board: Board, vanilla: DeploymentFiles, protected: DeploymentFiles, image: NDArray[np.float32]
    ) -> None:
        self._image = image
        self._vanilla = board.open(vanilla)
        try:
            self._protected = board.open(protected)
        except BaseException:
            self._vanilla.close()
            raise
        self._taken: dict[str, list[Timings]] = {"vanilla": [], "protected": []}

    def warm_up(self) -> None:
        """Run both for a while, untimed."""
        self._vanilla.time(self._image, 2 * BURST)
        self._protected.time(self._image, 2 * BURST)

    def vanilla(self) -> None:
        """One turn of the unprotected deployment."""
        self._taken["vanilla"].append(self._vanilla.time(self._image, BURST, noops=0))

    def protected(self) -> None:
        """One turn of the protected deployment; empty calls come after it, under the same conditions."""
        self._taken["protected"].append(self._protected.time(self._image, BURST, noops=BURST))

    def samples(self) -> LatencySamples:
        """Everything measured, bursts joined, first queries dropped."""

        def join(name: str, field: str) -> NDArray[np.int64]:
            return np.concatenate([getattr(timings, field)[1:] for timings in self._taken[name]])

        return LatencySamples(
            vanilla_ns=join("vanilla", "total_ns"),
            protected_ns=join("protected", "total_ns"),
            invoke_ns=join("protected", "invoke_ns"),
            noop_ns=join("protected", "noop_ns"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._vanilla.close()
        finally:
            self._protected.close()
