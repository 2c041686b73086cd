"""The QEMU board: real OP-TEE on an emulated Armv8 processor that counts instructions instead of measuring time."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device import cross
from device.board import BoardError
from device.qemu import vm
from device.qemu.image import Image, board_cache, build_image
from device.qemu.machine import Machine
from device.remote import Progress, RemoteBoard
from device.ssh import SshTarget
from device.wire import Clock

RUN_ENV = "LEAKBOARD_RUN"
"""Names the run that this process belongs to, as ``<process id>-<anything>`` of the process that leads it."""

TEE_LIMIT_BYTES = cross.limit_bytes(13_248 * 1024)
"""With a larger heap this OP-TEE (15 MiB of secure memory, its own included) does not load the TA."""

_MARK = "booted_by"
_STOP_S = 30.0


class QemuBoard(RemoteBoard):
    """One emulated machine, booted on demand, that all processes use in turn.

    A process has it from the opening of its first session to the closing of its last: two deployments that are timed
    in turns are both open. In between it is paused, since its clock and its OP-TEE go on even when it idles.
    """

    mode = f"icount {vm.ICOUNT.replace(',', ' ')}: emulated time"
    clock = Clock.PROCESS_CPU

    turns_a_session = 4
    most_turns = 8
    most_queries = 400

    def __init__(
        self,
        tee_limit_bytes: int = TEE_LIMIT_BYTES,
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        wait_s: float = -1,
    ) -> None:
        """Nothing is built or booted yet.

        Args:
            tee_limit_bytes: bounds the TA's memory.
            folder: of the machine's disk and keys; by default the one that ``leakboard board`` looks after.
            progress: is told what takes long.
            wait_s: how long to wait while other processes have the machine; for ever by default.
        """
        super().__init__(SshTarget("root", "qemu"), tee_limit_bytes, progress=progress)
        self.name = "qemu"
        self._path = folder or board_cache() / "qemu"
        self._wait_s = wait_s
        self._pid: int | None = None

    def target(self) -> SshTarget:  # noqa: D102  (see RemoteBoard)
        return self.machine.target()

    def dev_kit(self) -> Path:  # noqa: D102  (see RemoteBoard)
        return self._image.dev_kit

    def recover(self) -> None:
        """Pull the plug and boot again, unless another process has done so since.

        Raises:
            BoardError: it does not come up.
        """
        self._tell("restarting the board qemu")
        self._holding.end()
        with self.machine.having(_user(), timeout_s=self._wait_s, waiting=self._tell):
            if vm.find(self._path) in (None, self._pid):
                self.machine.kill()
                self._boot()
                self.machine.pause()

    def close(self) -> None:
        """Stop the machine if it was booted for this run; one that was there before stays, paused."""
        self._holding.end()
        if self._mark() != f"{_run()} {vm.find(self._path)}":
            return
        with suppress(BoardError), self.machine.having(_user(), timeout_s=_STOP_S):
            self.machine.stop()

    def _identity(self) -> tuple[str, ...]:
        return (self._image.digest, vm.mode())

    def _ta_key(self) -> str:
        return self._ta.parent.name

    def _clock_text(self) -> str:
        return "process CPU time under -icount: one instruction is one nanosecond; emulated time, no Pi's"

    @functools.cached_property
    def _image(self) -> Image:
        return build_image(self._tell)

    @functools.cached_property
    def machine(self) -> Machine:
        """The machine; its image is built first, if need be."""
        return Machine(self._image, self._path)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        with self.machine.having(_user(), timeout_s=self._wait_s, waiting=self._tell):
            self._boot()
            try:
                yield
            finally:
                with suppress(BoardError):  # it is gone
                    self.machine.pause()

    def _boot(self) -> None:
        """See that the machine runs; remember for which run it was started, if it was."""
        before = vm.find(self._path)
        if before is None:
            self._tell("booting the board qemu")
        self.machine.boot()
        self._pid = vm.find(self._path)
        mark = self._mark()
        if self._pid != before or (mark.endswith(f" {before}") and not _lives(mark)):
            (self._path / _MARK).write_text(f"{_run()} {self._pid}")

    def _mark(self) -> str:
        """The run for which the machine was booted, and its process id then."""
        try:
            return (self._path / _MARK).read_text()
        except OSError:
            return ""


def _user() -> str:
    return f"run {_run()}"


def _run() -> str:
    return os.environ.get(RUN_ENV) or f"{os.getpid()}-alone"


def _lives(run: str) -> bool:
    """Whether the process that leads a run still exists."""
    leader = run.partition("-")[0]
    return leader.isdigit() and Path(f"/proc/{leader}").exists()
