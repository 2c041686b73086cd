"""The emulated board: agent and TA compiled for this machine, the secure world in a process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from device import wire
from device.board import Board, BoardError, DeploymentFiles, Session
from device.build import Build, build, cpu
from device.client import AgentSession, Connection

DEFAULT_TEE_LIMIT_BYTES = 16 << 20


class EmulatedBoard(Board):
    """The machine at hand as a board: no hardware, fast, with a TEE memory limit that is enforced.

    ``tee_limit_bytes`` bounds heap, mapped shared memory, stack and static data of the TA together.
    ``sanitize`` builds everything with ASan and UBSan: for tests.
    """

    name = "emulated"

    def __init__(self, tee_limit_bytes: int = DEFAULT_TEE_LIMIT_BYTES, *, sanitize: bool = False) -> None:
        if tee_limit_bytes < 1:
            raise BoardError(f"a TEE memory limit of {tee_limit_bytes} bytes")
        self._limit = tee_limit_bytes
        self._sanitize = sanitize

    def fingerprint(self) -> str:  # noqa: D102  (see Board)
        return hashlib.sha256(f"{self.name}:{self._build().key}:{self._limit}".encode()).hexdigest()

    def describe(self) -> Mapping[str, str | int]:  # noqa: D102  (see Board)
        made = self._build()
        return {
            "board": self.name,
            "compiler": made.compiler,
            "flags": " ".join(made.flags),
            "cpu": cpu()[0],
            "tee_limit_bytes": self._limit,
            "clock": "CLOCK_MONOTONIC of this machine: no board's time",
        }

    def tee_limit_bytes(self) -> int:  # noqa: D102  (see Board)
        return self._limit

    def open(self, files: DeploymentFiles) -> Session:  # noqa: D102  (see Board)
        made = self._build()
        storage = tempfile.mkdtemp(prefix="leakboard-tee-")
        try:
            if files.sealed is not None:
                provision(files.sealed, Path(storage))
            connection = self._start(made, storage)
            try:
                return AgentSession(connection, files.public, files.sealed is not None, self._limit)
            except BaseException:
                connection.close()
                raise
        finally:
            # The TA has read the model into its own memory, or never will.
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


def provision(sealed: Path, storage: Path) -> None:
    """Put a sealed file into secure storage, as the TA looks for it (``ta/include/leakboard_ta.h``).

    Raises:
        BoardError: the file cannot be read, or is too short to be a model.
    """
    try:
        with sealed.open("rb") as file:
            header = file.read(wire.MODEL_HEADER_BYTES)
        if len(header) < wire.MODEL_HEADER_BYTES:
            raise BoardError(f"the sealed file {sealed} has {len(header)} bytes: not a model file")
        shutil.copyfile(sealed, storage / (wire.OBJECT_PREFIX + header[wire.MODEL_ID]).hex())
    except OSError as error:
        raise BoardError(f"cannot provision the sealed file {sealed}: {error.strerror}") from error
