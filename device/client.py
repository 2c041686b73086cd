"""Speaking with an agent: frames over its stdin and stdout, and the session made of them."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from device import wire
from device.board import Answer, BoardError, Session, SessionStats, TeeOutOfMemory, Timings
from device.wire import AgentErrorCode, FrameType

BATCH_BYTES = 1 << 20
"""Images go out in frames of about this size, and public files in pieces of it."""

STDERR_TAIL_BYTES = 2000
EXIT_SECONDS = 5.0


def describe_exit(returncode: int) -> str:
    """How a process ended, in words, from ``subprocess``'s return code."""
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"was killed by signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:
        return f"was killed by signal {-returncode}"


class Connection:
    """Requests to one agent, one at a time, and their answers.

    An exchange that does not run to its end (Ctrl-C, a dead agent, an answer that makes no sense) ends the
    agent: nobody could tell which answer the next one belongs to.
    """

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        """Take over a running agent; ``stderr`` is the file that it and its secure world write to."""
        self._process = process
        self._stderr = stderr
        self._request = 0
        self._end = weakref.finalize(self, _end_process, process, stderr)

    def ask(self, kind: FrameType, *body: bytes | memoryview) -> bytes:
        """Send one request and return the body of its only answer.

        Raises:
            TeeOutOfMemory: the secure world's memory does not suffice.
            BoardError: the agent refused, or it died.
        """
        return self.ask_many(kind, 1, lambda _, answer: answer, *body)

    def ask_many(
        self, kind: FrameType, n: int, take: Callable[[int, bytes], bytes], *body: bytes | memoryview
    ) -> bytes:
        """As :meth:`ask` with ``n`` answers: ``take`` gets each with its number; the last is returned."""
        size = sum(len(part) for part in body)
        if size > wire.FRAME_MAX_BYTES:
            raise BoardError(f"a {kind.name} request of {size} bytes; a frame holds {wire.FRAME_MAX_BYTES}")
        if not self._end.alive:
            raise BoardError("the session is over: it was closed, interrupted, or its agent died; open another")
        self._request += 1
        answer = b""
        try:
            self._send(kind, size, body)
            for number in range(n):
                answer = take(number, self._receive(kind))
        except _Refusal as refusal:  # the agent said no, and is in step
            raise refusal.error from None
        except BaseException:
            self._end()
            raise
        return answer

    def close(self) -> None:
        """End the agent; a second call does nothing."""
        self._end()

    def _send(self, kind: FrameType, size: int, body: tuple[bytes | memoryview, ...]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(wire.FRAME.pack(wire.FRAME_MAGIC, wire.FRAME_VERSION, kind, self._request, size))
            for part in body:
                stdin.write(part)
            stdin.flush()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died(kind) from error

    def _receive(self, kind: FrameType) -> bytes:
        magic, version, answered, request, size = wire.FRAME.unpack(self._read(kind, wire.FRAME.size))
        if magic != wire.FRAME_MAGIC or version != wire.FRAME_VERSION or size > wire.FRAME_MAX_BYTES:
            raise BoardError(f"the agent's answer to {kind.name} is no frame (magic {magic:#x}); {self._said()}")
        body = self._read(kind, size)
        if answered == wire.FRAME_ERROR:
            raise _Refusal(self._error(body))
        if answered != kind | wire.FRAME_ANSWER or request != self._request:
            raise BoardError(f"the agent answered {kind.name} #{self._request} with type {answered:#x} #{request}")
        return body

    def _read(self, kind: FrameType, size: int) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        data = stdout.read(size)
        if len(data) < size:
            raise self._died(kind)
        return data

    def _error(self, body: bytes) -> BoardError:
        code, _ = wire.FAILURE.unpack_from(body)
        text = body[wire.FAILURE.size :].decode(errors="replace")
        if code == AgentErrorCode.TEE_MEMORY:
            return TeeOutOfMemory(f"{text}; raise the TEE's memory limit or hide fewer layers")
        if code == AgentErrorCode.TEE_DEAD:
            return BoardError(f"{text}; {self._said()}")
        return BoardError(text)

    def _died(self, kind: FrameType) -> BoardError:
        try:
            ended = describe_exit(self._process.wait(EXIT_SECONDS))
        except subprocess.TimeoutExpired:
            ended = "closed its output but still runs"
        return BoardError(f"the agent {ended} during {kind.name}; {self._said()}")

    def _said(self) -> str:
        """The tail of what agent and secure world wrote to stderr."""
        try:
            size = self._stderr.seek(0, 2)
            self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
            text = self._stderr.read().decode(errors="replace").strip()
        except (OSError, ValueError):
            text = ""
        return f"stderr: {text}" if text else "nothing on stderr"


class _Refusal(Exception):
    """Carries an error that the agent reported in an orderly answer."""

    def __init__(self, error: BoardError) -> None:
        super().__init__(error)
        self.error = error


def _end_process(process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
    """Close the agent's stdin, which ends it and its secure world; kill it when it does not listen."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # it is gone already
        process.stdin.close()
    try:
        process.wait(0 if process.poll() is not None else 0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    stderr.close()


class AgentSession(Session):
    """A deployment loaded into an agent."""

    def __init__(self, connection: Connection, public: Path, has_sealed: bool, tee_limit_bytes: int) -> None:
        """Send the public file; the sealed one is the secure world's affair.

        Raises:
            TeeOutOfMemory: the secure world cannot hold its part.
            BoardError: the agent refused a file, or died.
        """
        self._connection = connection
        self._limit = tee_limit_bytes
        _greet(connection)
        loaded = _load(connection, public, has_sealed)
        rank, d0, d1, d2, d3, self._classes, self._policy, n_crossings = wire.LOADED.unpack_from(loaded)
        self._shape = (d0, d1, d2, d3)[:rank]
        self._crossings = [
            _crossing(wire.CROSSING.unpack_from(loaded, wire.LOADED.size + i * wire.CROSSING.size))
            for i in range(n_crossings)
        ]

    def infer(self, images: NDArray[np.float32], *, boundary: bool = False) -> Answer:  # noqa: D102  (see Session)
        batch = self._checked(images, (len(images), *self._shape))
        n = len(batch)
        label = self._policy == wire.POLICY_LABEL
        outputs = np.empty((n, 1 if label else self._classes), dtype="<u4" if label else "<f4")
        crossed = [np.empty((n, *shape), dtype="<f4") for _, shape in self._crossings if boundary]
        step = max(1, BATCH_BYTES // max(1, 4 * math.prod(self._shape)))
        for first in range(0, n, step):
            part = batch[first : first + step]

            def take(number: int, answer: bytes, first: int = first) -> bytes:
                self._take(answer, outputs[first + number], [array[first + number] for array in crossed])
                return answer

            head = wire.INFER.pack(len(part), boundary)
            self._connection.ask_many(FrameType.INFER, len(part), take, head, part.data.cast("B"))
        names = [name for name, _ in self._crossings]
        kept = dict(zip(names, (array.astype(np.float32, copy=False) for array in crossed), strict=False))
        if label:
            return Answer(outputs[:, 0].astype(np.int64), kept)
        return Answer(outputs.astype(np.float32, copy=False), kept)

    def time(self, image: NDArray[np.float32], rounds: int, noops: int = 200) -> Timings:
        """See :meth:`Session.time`; ``noops``: how many empty calls to measure after the rounds."""
        if not 1 <= rounds <= wire.MAX_ROUNDS or not 0 <= noops <= wire.MAX_ROUNDS:
            raise BoardError(f"{rounds} rounds and {noops} empty calls: 1 (0) to {wire.MAX_ROUNDS} are allowed")
        data = self._checked(image, self._shape)
        answer = self._connection.ask(FrameType.TIME, wire.TIME.pack(rounds, noops), data.reshape(-1).data.cast("B"))
        rounds, _ = wire.TIME.unpack_from(answer)
        times = np.frombuffer(answer, "<u8", offset=wire.TIME.size).astype(np.int64)
        return Timings(times[:rounds], times[rounds : 2 * rounds], times[2 * rounds :])

    def stats(self) -> SessionStats:  # noqa: D102  (see Session)
        switches, to, back, ree, peak, limit = wire.STATS.unpack(self._connection.ask(FrameType.STATS))
        return SessionStats(switches, to, back, ree, peak, limit or self._limit)

    def close(self) -> None:  # noqa: D102  (see Session)
        self._connection.close()

    def _checked(self, array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        if array.shape != shape:
            raise BoardError(f"images are {array.shape}, the deployment takes {self._shape} each")
        return np.ascontiguousarray(array, dtype="<f4")

    def _take(self, answer: bytes, output: NDArray[np.generic], crossed: list[NDArray[np.float32]]) -> None:
        """Put one answer into the row of outputs and of each boundary tensor."""
        at = wire.RESULT.size
        expected = at + output.nbytes + sum(row.nbytes for row in crossed)
        if len(answer) != expected:
            raise BoardError(f"the agent's answer has {len(answer)} bytes, expected {expected}")
        for row in (output, *crossed):
            row[...] = np.frombuffer(answer, row.dtype, row.size, at).reshape(row.shape)
            at += row.nbytes


def _crossing(fields: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Name and shape of a tensor that crosses."""
    step, from_tee, index, rank, *dims = fields
    return f"step{step}.{'out' if from_tee else 'in'}{index}", tuple(dims[:rank])


def _greet(connection: Connection) -> None:
    protocol, _, frame_max, _ = wire.HELLO.unpack(connection.ask(FrameType.HELLO))
    if protocol != wire.FRAME_VERSION or frame_max != wire.FRAME_MAX_BYTES:
        raise BoardError(f"the agent speaks protocol {protocol}, this side {wire.FRAME_VERSION}: rebuild the agent")


def _load(connection: Connection, public: Path, has_sealed: bool) -> bytes:
    try:
        data = memoryview(public.read_bytes())
    except OSError as error:
        raise BoardError(f"cannot read the public file {public}: {error.strerror}") from error
    if not data or len(data) >= 2**32:
        raise BoardError(f"the public file {public} has {len(data)} bytes: not a model file")
    answer = connection.ask(FrameType.LOAD, wire.LOAD.pack(len(data), has_sealed))
    for at in range(0, len(data), BATCH_BYTES):
        answer = connection.ask(FrameType.LOAD_DATA, data[at : at + BATCH_BYTES])
    return answer
