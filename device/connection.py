"""Requests to an agent and its answers: frames over the stdin and stdout of a process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import weakref
from collections.abc import Callable
from typing import IO

from device import wire
from device.board import BoardError, TeeOutOfMemory
from device.wire import AgentErrorCode, FrameType

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
