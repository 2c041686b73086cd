"""Requests to an agent and its answers: frames over the stdin and stdout of a process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Callable
from typing import IO

from device import wire
from device.board import BoardError, BoardLost, SealedRefused, SlicesRefused, TeeOutOfMemory
from device.tee_errors import TARGET_DEAD, meaning
from device.wire import AgentErrorCode, FrameType, SealedError

STDERR_TAIL_BYTES = 2000
EXIT_SECONDS = 5.0
PATIENCE_S = 300.0
"""The longest silence in an exchange: from one byte to the next, and from the question to the first."""
FAREWELL_S = 0.5
"""How long an agent may take to end when its stdin is closed."""
_PIECE_BYTES = 1 << 20

Explain = Callable[[int, str], BoardError | None]
"""Makes an error of how the agent's process ended: its return code, and what it wrote to stderr."""


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

    An exchange that does not run to its end (Ctrl-C, a dead or silent agent, an answer that makes no sense) ends the
    agent: nobody could tell which answer the next one belongs to.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stderr: IO[bytes],
        *,
        patience_s: float = PATIENCE_S,
        farewell_s: float = FAREWELL_S,
        explain: Explain | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Take over a running agent, with unbuffered or untouched pipes.

        Args:
            process: the agent, or the program that leads to it.
            stderr: the file that it and its secure world write to.
            patience_s: the silence after which the agent counts as lost.
            farewell_s: how long it may take to end, once it is told to.
            explain: makes a better error of the process's end, where it can.
            on_end: called once, after the agent has ended.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stderr = stderr
        self._patience_s = patience_s
        self._explain = explain
        self._request = 0
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._in, False)  # a board that hangs must not hang us in a write
        self._end = weakref.finalize(self, _end_process, process, stderr, farewell_s, on_end)

    def ask(self, kind: FrameType, *body: bytes | memoryview, patience: float = 1.0) -> bytes:
        """Send one request and return the body of its only answer.

        Args:
            kind: of the request.
            *body: its parts, one after the other.
            patience: how many times as long as usual the agent may be silent.

        Raises:
            TeeOutOfMemory: the secure world's memory does not suffice.
            BoardLost: the agent died, its secure world did, or it was silent for too long.
            BoardError: the agent refused.
        """
        return self.ask_many(kind, 1, lambda _, answer: answer, *body, patience=patience)

    def ask_many(
        self,
        kind: FrameType,
        n: int,
        take: Callable[[int, bytes], bytes],
        *body: bytes | memoryview,
        patience: float = 1.0,
    ) -> bytes:
        """As :meth:`ask` with ``n`` answers: ``take`` gets each with its number; the last is returned."""
        size = sum(len(part) for part in body)
        if size > wire.FRAME_MAX_BYTES:
            raise BoardError(f"a {kind.name} request of {size} bytes; a frame holds {wire.FRAME_MAX_BYTES}")
        if not self._end.alive:
            raise BoardError("the session is over: it was closed, interrupted, or its agent died; open another")
        self._request += 1
        silence_s = self._patience_s * max(1.0, patience)
        answer = b""
        try:
            self._send(kind, size, body, silence_s)
            for number in range(n):
                answer = take(number, self._receive(kind, silence_s))
        except _Refusal as refusal:  # the agent said no, and is in step
            raise refusal.error from None
        except BaseException:
            self._end()
            raise
        return answer

    def close(self) -> None:
        """End the agent; a second call does nothing."""
        self._end()

    def cut_off(self) -> None:
        """Kill the process: what a lost board looks like."""
        self._process.kill()

    def _send(self, kind: FrameType, size: int, body: tuple[bytes | memoryview, ...], silence_s: float) -> None:
        frame = wire.FRAME.pack(wire.FRAME_MAGIC, wire.FRAME_VERSION, kind, self._request, size)
        for part in (frame, *body):
            rest = memoryview(part).cast("B") if len(part) else memoryview(b"")
            while rest:
                self._wait(self._in, select.POLLOUT, kind, silence_s)
                try:
                    rest = rest[os.write(self._in, rest[:_PIECE_BYTES]) :]
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise self._died(kind) from error

    def _receive(self, kind: FrameType, silence_s: float) -> bytes:
        head = self._read(kind, wire.FRAME.size, silence_s)
        magic, version, answered, request, size = wire.FRAME.unpack(head)
        if magic != wire.FRAME_MAGIC or version != wire.FRAME_VERSION or size > wire.FRAME_MAX_BYTES:
            raise BoardError(f"the agent's answer to {kind.name} is no frame (magic {magic:#x}); {self._said()}")
        body = self._read(kind, size, silence_s)
        if answered == wire.FRAME_ERROR:
            raise self._refusal(kind, body)
        if answered != kind | wire.FRAME_ANSWER or request != self._request:
            raise BoardError(f"the agent answered {kind.name} #{self._request} with type {answered:#x} #{request}")
        return body

    def _read(self, kind: FrameType, size: int, silence_s: float) -> bytes:
        """Exactly ``size`` bytes and none of the next answer's: nothing that came is kept here."""
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, kind, silence_s)
            came = os.read(self._out, min(size - len(data), _PIECE_BYTES))
            if not came:
                raise self._died(kind)
            data += came
        return bytes(data)

    def _wait(self, fd: int, event: int, kind: FrameType, silence_s: float) -> None:
        """Until ``fd`` is ready, or the other end is gone.

        Raises:
            BoardLost: it takes too long; the agent is killed.
        """
        waiting = select.poll()
        waiting.register(fd, event)
        until = time.monotonic() + silence_s
        while not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            if time.monotonic() >= until:
                self._process.kill()
                raise BoardLost(
                    f"the board hangs: {silence_s:g} s of silence during {kind.name} (request {self._request});"
                    f" {self._said()}"
                )

    def _refusal(self, kind: FrameType, body: bytes) -> Exception:
        """The exception for a "no"; one that is none is raised as it is and ends the agent."""
        if len(body) < wire.FAILURE.size:
            return BoardError(f"the agent's refusal of {kind.name} has {len(body)} bytes: no refusal")
        code, detail = wire.FAILURE.unpack_from(body)
        text = body[wire.FAILURE.size :].decode(errors="replace")
        if code == AgentErrorCode.TEE_MEMORY:
            return _Refusal(TeeOutOfMemory(f"{text}; raise the TEE's memory limit or hide fewer layers"))
        if code == AgentErrorCode.TEE_DEAD:
            how = f" ({meaning(detail)})" if detail == TARGET_DEAD else ""
            return _Refusal(BoardLost(f"{text}{how}; {self._said()}"))
        if code == AgentErrorCode.REFUSED and detail in list(SealedError):
            return _Refusal(SealedRefused(text, SealedError(detail).name))
        if code == AgentErrorCode.SLICES:
            return _Refusal(SlicesRefused(text))
        why = meaning(detail) if code == AgentErrorCode.TEE else None
        return _Refusal(BoardError(f"{text}: {why}" if why else text))

    def _died(self, kind: FrameType) -> BoardError:
        try:
            status = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return BoardLost(f"the agent closed its output but still runs during {kind.name}; {self._said()}")
        error = self._explain(status, self._stderr_tail()) if self._explain else None
        if error is None:
            return BoardLost(f"the agent {describe_exit(status)} during {kind.name}; {self._said()}")
        return type(error)(f"{error} (during {kind.name})")

    def _said(self) -> str:
        text = self._stderr_tail()
        return f"stderr: {text}" if text else "nothing on stderr"

    def _stderr_tail(self) -> str:
        """The last of what agent and secure world wrote to stderr."""
        try:
            size = self._stderr.seek(0, 2)
            self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
            return self._stderr.read().decode(errors="replace").strip()
        except (OSError, ValueError):
            return ""


class _Refusal(Exception):
    """Carries an error that the agent reported in an orderly answer."""

    def __init__(self, error: BoardError) -> None:
        super().__init__(error)
        self.error = error


def _end_process(
    process: subprocess.Popen[bytes], stderr: IO[bytes], farewell_s: float, on_end: Callable[[], None] | None
) -> None:
    """Close the agent's stdin, which ends it and its secure world; kill it when it does not listen."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(OSError):  # it is gone already
            process.stdin.close()
        try:
            process.wait(0 if process.poll() is not None else farewell_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        stderr.close()
    finally:
        if on_end is not None:
            on_end()
