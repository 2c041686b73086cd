"""A board that is nothing but a command: whatever leads to the agent's stdin and stdout."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from device.board import Board, BoardError, DeploymentFiles, Session
from device.build import build
from device.client import AgentSession, ask_device_key
from device.connection import PATIENCE_S, Connection


class AgentBoard(Board):
    """A board reached by one command; a session is one run of it.

    The command starts an agent (``device/agent``), here or elsewhere, and passes its stdin and stdout through as they
    are: no terminal, no line endings changed, nothing else written. Files reach the agent through that pipe. It ends
    when its stdin is closed.
    """

    patience_s: float = PATIENCE_S
    """The silence after which the agent counts as lost."""

    def __init__(self, tee_limit_bytes: int = 16 << 20) -> None:
        """Nothing is built or started yet; ``tee_limit_bytes``: what the TA may hold, which the board enforces.

        Raises:
            BoardError: the limit is no positive number.
        """
        if tee_limit_bytes < 1:
            raise BoardError(f"a TEE memory limit of {tee_limit_bytes} bytes")
        self._limit = tee_limit_bytes

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program that is, or leads to, a fresh agent, and its arguments."""

    def fingerprint(self) -> str:
        """Of the agent's sources and flags here, of the file that this board's class is in, and of the limit.

        Override it where the agent is not the one that these sources make.
        """
        digest = hashlib.sha256(f"{self.name}:{build().key}:{self._limit}".encode())
        digest.update(Path(inspect.getfile(type(self))).read_bytes())
        return digest.hexdigest()

    def describe(self) -> Mapping[str, str | int]:
        """What a record says of the board; override it to tell compiler, CPU and what its clock is."""
        return {"board": self.name, "tee_limit_bytes": self._limit, "clock": self.clock.name}

    def tee_limit_bytes(self) -> int:  # noqa: D102  (see Board)
        return self._limit

    def open(self, files: DeploymentFiles) -> Session:  # noqa: D102  (see Board)
        connection = self._connect()
        try:
            return AgentSession(connection, files, self._limit, self.clock)
        except BaseException:
            connection.close()
            raise

    def device_key(self) -> bytes:  # noqa: D102  (see Board)
        connection = self._connect()
        try:
            return ask_device_key(connection)
        finally:
            connection.close()

    def _connect(self) -> Connection:
        words = list(self.command())
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  (the connection closes it)
        try:
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        except OSError as error:
            stderr.close()
            raise BoardError(f"board {self.name}: cannot start {words[0]}: {error.strerror}") from error
        return Connection(process, stderr, patience_s=self.patience_s)
