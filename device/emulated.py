"""The emulated board: agent and TA compiled for this machine, the secure world in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from device.board import Board, BoardError, DeploymentFiles, Session
from device.build import Build, build, cpu
from device.client import AgentSession, ask_device_key
from device.connection import Connection

DEFAULT_TEE_LIMIT_BYTES = 16 << 20


class EmulatedBoard(Board):
    """The machine at hand as a board: no hardware, fast, with a TEE memory limit that is enforced.

    It protects nothing: its secure storage, the device's private key included, is a folder in the clear.
    """

    name = "emulated"

    def __init__(
        self,
        tee_limit_bytes: int = DEFAULT_TEE_LIMIT_BYTES,
        *,
        sanitize: bool = False,
        storage: Path | None = None,
    ) -> None:
        """Nothing is built or started yet.

        Args:
            tee_limit_bytes: bounds heap, mapped shared memory, stack and static data of the TA together.
            sanitize: builds everything with ASan and UBSan: for tests.
            storage: a folder for the TEE's secure storage, which is kept: the board is then always the same device. By
                default every session is a device of its own, whose storage is gone when it is open.

        Raises:
            BoardError: the limit is no positive number, or ``storage`` is no folder.
        """
        if tee_limit_bytes < 1:
            raise BoardError(f"a TEE memory limit of {tee_limit_bytes} bytes")
        if storage is not None and not storage.is_dir():
            raise BoardError(f"the folder {storage} for secure storage does not exist")
        self._limit = tee_limit_bytes
        self._sanitize = sanitize
        self._storage = storage

    def fingerprint(self) -> str:  # noqa: D102  (see Board)
        return hashlib.sha256(f"{self.name}:{self._build().key}:{self._limit}".encode()).hexdigest()

    def describe(self) -> Mapping[str, str | int]:  # noqa: D102  (see Board)
        made = self._build()
        return {
            "board": self.name,
            "mode": "wall time of this machine",
            "compiler": made.compiler,
            "flags": " ".join(made.flags),
            "cpu": cpu()[0],
            "tee_limit_bytes": self._limit,
            "clock": "CLOCK_MONOTONIC of this machine: no board's time",
        }

    def tee_limit_bytes(self) -> int:  # noqa: D102  (see Board)
        return self._limit

    def open(self, files: DeploymentFiles) -> Session:  # noqa: D102  (see Board)
        with self._connected() as connection:
            return AgentSession(connection, files, self._limit, self.clock)

    def device_key(self) -> bytes:  # noqa: D102  (see Board)
        with self._connected() as connection:
            try:
                return ask_device_key(connection)
            finally:
                connection.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """An agent with secure storage, which is closed if the block fails."""
        made = self._build()
        storage = str(self._storage) if self._storage else tempfile.mkdtemp(prefix="leakboard-tee-")
        try:
            connection = self._start(made, storage)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        finally:
            # The TA has the model in its own memory, or never will, and its key is of no use any more.
            if self._storage is None:
                shutil.rmtree(storage, ignore_errors=True)

    def _build(self) -> Build:
        return build(sanitize=self._sanitize)

    def _start(self, made: Build, storage: str) -> Connection:
        """Start the agent; it hands ``storage`` on to the secure world, in a file that it does not read."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115  (the connection closes it)
        config = os.memfd_create("leakboard-config")
        try:
            os.write(config, f"tee_limit_bytes={self._limit}\nstorage={storage}\n".encode())
            process = subprocess.Popen(
                [str(made.agent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=(config,),
                env={**os.environ, "LEAKBOARD_EMU_CONFIG_FD": str(config)},
            )
        except OSError as error:
            stderr.close()
            raise BoardError(f"cannot start the agent {made.agent}: {error.strerror}") from error
        finally:
            os.close(config)
        return Connection(process, stderr)
