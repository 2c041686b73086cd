"""Measuring what hiding costs: vanilla and the protected deployment in turns, in fresh sessions every few turns.

How many turns share a session, and how many there are at most, is the board's to say (``device.board.Board``).
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from device.board import Board, DeploymentFiles, Session, Timings
from suite.record import LatencySamples

BURST = 4
"""Queries a turn. The first finds the caches full of the other deployment's weights and is dropped."""


class LatencyMeter:
    """Two deployments that take turns, and the times taken so far. A context manager.

    ``image`` is float32 [C, H, W]. Each turn is one call of ``vanilla`` and then one of ``protected``.
    """

    def __init__(
        self, board: Board, vanilla: DeploymentFiles, protected: DeploymentFiles, image: NDArray[np.float32]
    ) -> None:
        self._board, self._image = board, image
        self._files = (vanilla, protected)
        self._open = contextlib.ExitStack()
        self._sessions: tuple[Session, Session] | None = None
        self._taken: dict[str, list[Timings]] = {"vanilla": [], "protected": []}
        self._session_of_turn: list[int] = []

    def vanilla(self) -> None:
        """The unprotected deployment's half of a turn; starts both anew when it is time to."""
        turn, most = len(self._session_of_turn), self._board.turns_a_session
        if self._sessions is None or turn % most == 0:
            self._restart()
        assert self._sessions is not None
        self._session_of_turn.append(turn // most)
        self._taken["vanilla"].append(self._sessions[0].time(self._image, BURST, noops=0))

    def protected(self) -> None:
        """The protected deployment's half; empty calls come after it, under the same conditions."""
        assert self._sessions is not None
        self._taken["protected"].append(self._sessions[1].time(self._image, BURST, noops=BURST))

    def _restart(self) -> None:
        """Close both, open both, and run both for a while, untimed."""
        self._open.close()
        vanilla, protected = (self._open.enter_context(self._board.open(files)) for files in self._files)
        for session in (vanilla, protected):
            session.time(self._image, 2 * BURST, noops=BURST)
        self._sessions = (vanilla, protected)

    def samples(self) -> LatencySamples:
        """Everything measured, bursts joined, first queries dropped."""

        def join(name: str, field: str) -> NDArray[np.int64]:
            return np.concatenate([getattr(timings, field)[1:] for timings in self._taken[name]])

        return LatencySamples(
            vanilla_ns=join("vanilla", "total_ns"),
            protected_ns=join("protected", "total_ns"),
            invoke_ns=join("protected", "invoke_ns"),
            noop_ns=join("protected", "noop_ns"),
            session=np.repeat(np.array(self._session_of_turn, np.int64), BURST - 1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
