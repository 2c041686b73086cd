"""What every board is: a way to start the agent, and the session that speaks with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from device.wire import Clock

if TYPE_CHECKING:
    from device.training import Training, TrainOptions


class BoardError(RuntimeError):
    """A board that could not be built, started or reached, or that answered with an error; says what to do."""


class BoardLost(BoardError):
    """The agent, the TA, the line or the whole board is gone or hangs: after :meth:`Board.recover` it may work."""


class SealedRefused(BoardError):
    """The TA refused a sealed model; ``reason`` is the name of the ``enum lb_sealed_error`` without its prefix."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SlicesRefused(BoardError):
    """The sealed slices of streamed filters are no such file, or the TA refused one: changed, missing, out of order."""


class TeeOutOfMemory(BoardError):
    """The secure world refused the deployment because its memory limit is too small."""


@dataclass(frozen=True, slots=True)
class DeploymentFiles:
    """The files of a deployment.

    ``public`` is what normal-world storage holds (``ta/include/lb_model.h``). ``sealed`` is what only the secure world
    may open, or None when nothing is hidden: either the model file itself, as it lies with the owner, which a session
    seals to the device that it speaks with, or one sealed before (``ta/include/lb_sealed.h``). ``slices`` holds the
    filters that ``sealed`` leaves out, or is None where it leaves out none: one slice behind the other, in the clear,
    where ``sealed`` is, else sealed with it (``ta/include/lb_slices.h``). Normal-world storage holds them sealed.
    """

    public: Path
    sealed: Path | None
    slices: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for N queries.

    ``outputs``: float32 [N, n_classes], or int64 [N] for label-only deployments. ``boundary``: one float32 array
    [N, *shape] for every tensor that crossed between the worlds, in the order of crossing, in either direction, keyed
    ``"step<i>.in<j>"`` (normal to secure) and ``"step<i>.out<j>"`` (secure to normal; not the final output, which is
    ``outputs``); empty unless asked for.
    """

    outputs: NDArray[np.float32] | NDArray[np.int64]
    boundary: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Timings:
    """Per-query times of one image run ``rounds`` times, int64 arrays [rounds], in nanoseconds on the board's clock.

    ``total_ns`` = time in the normal world + ``invoke_ns`` (the sum over TEE calls of their whole duration, switch
    included). ``noop_ns`` [calls] are empty calls into the TA, measured in the same session: their median is the cost
    of one world switch, there and back; empty when nothing is hidden.
    """

    total_ns: NDArray[np.int64]
    invoke_ns: NDArray[np.int64]
    noop_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counts of a session so far.

    ``switches_per_query``: TEE calls for one query, those that bring slices included. ``bytes_to_tee`` (slices
    included) and ``bytes_from_tee``: per query. ``ree_bytes``: public file, sealed slices, arena and scratch in
    normal-world memory. ``tee_peak_bytes``: most memory the secure world held at once (heap, shared memory, stack and
    static data of the TA), 0 when nothing is hidden; ``tee_limit_bytes``: what it was allowed. ``shared_bytes``: memory
    that both worlds see while queries run. ``unseal_us``: what it took, on the board's clock, to bring the sealed model
    into the TEE and open it there.
    """

    switches_per_query: int
    bytes_to_tee: int
    bytes_from_tee: int
    ree_bytes: int
    tee_peak_bytes: int
    tee_limit_bytes: int
    shared_bytes: int
    unseal_us: float


class Session(ABC):
    """An open deployment on a board. A context manager; holds no hidden parameter on this side."""

    @abstractmethod
    def infer(self, images: NDArray[np.float32], *, boundary: bool = False) -> Answer:
        """Run N images, float32 [N, *input shape], one query each.

        Raises:
            BoardError: the shape is not the model's, or the board failed; the message says which.
        """

    @abstractmethod
    def time(self, image: NDArray[np.float32], rounds: int, noops: int = 200) -> Timings:
        """Run one image ``rounds`` times, then ``noops`` empty TEE calls, and report the board's own clock."""

    @abstractmethod
    def stats(self) -> SessionStats:
        """Counts and memory so far."""

    def train(self, options: TrainOptions) -> Training:
        """Begin to train the deployment on the board.

        Raises:
            TeeOutOfMemory: the secure world cannot hold what training takes.
            BoardError: this session or deployment cannot be trained, or its owner does not allow it.
        """
        raise BoardError(f"a session of the kind {type(self).__name__} cannot train")

    @abstractmethod
    def close(self) -> None:
        """End the session; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Board(ABC):
    """A kind of device, configured. ``name`` stands in cells and records and is fit for a file's name."""

    name: str
    clock: Clock = Clock.MONOTONIC
    """What sessions are timed with."""
    turns_a_session: int = 8
    """Where a process's memory and threads come to lie moves its times by more than one query differs from the next, so
    deployments that are timed are started anew after so many turns, and intervals are taken over the starts."""
    most_turns: int | None = None
    """More turns than that tell nothing new on this board; None where they always do."""
    most_queries: int | None = None
    """How many candidates to put to this board unless more are asked for; None where it is fast enough for all."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256, hex, over everything that can change an answer: C sources, compiler, flags, limits."""

    @abstractmethod
    def describe(self) -> Mapping[str, str | int]:
        """What a record says of the board: compiler, flags, CPU, limits, clock."""

    @abstractmethod
    def tee_limit_bytes(self) -> int:
        """The secure world's memory limit."""

    @abstractmethod
    def open(self, files: DeploymentFiles) -> Session:
        """Start the agent, load the deployment and return the session.

        Raises:
            TeeOutOfMemory: the TA could not hold the sealed part.
            SealedRefused: the TA refused it.
            BoardLost: the board, the agent or the TA is gone, or does not answer in time.
            BoardError: anything else, by name.
        """

    def device_key(self) -> bytes:
        """The public key to which models for this board are sealed, X || Y, 64 bytes; the TA makes it when first asked.

        Raises:
            BoardError: the board cannot tell.
        """
        raise BoardError(f"the board {self.name} does not tell its device key")

    def recover(self) -> None:  # noqa: B027  (most boards have nothing to bring back)
        """After :class:`BoardLost`: bring the board back, restarting what it takes. Does nothing by default.

        Raises:
            BoardError: it cannot be brought back.
        """

    def close(self) -> None:  # noqa: B027  (likewise)
        """Stop what :meth:`open` started for this run and nobody else uses. Does nothing by default."""
