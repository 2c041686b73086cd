"""The board as one QEMU process that several programs share, one at a time, and that is paused between them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import filelock

from device.board import BoardError, BoardLost
from device.qemu import keys, qmp, vm
from device.qemu.image import Image, board_cache
from device.qemu.state import State, read, read_state, write
from device.qemu.steps import tail
from device.qemu.storage import make_disk
from device.ssh import SshTarget

READY = "BOARD-READY"
FAILED = "BOARD-FAILED"
BOOT_S = 90.0
"""After that, a boot has failed: 3 s is usual, and the machine may be busy."""

_STATE = "state.json"
_USER = "user.json"
_POLL_S = 0.05
_END_S = 10.0
_PORTS = 5


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """What a machine is doing. ``port``, ``digest`` and ``up_s`` (wall seconds) are None while nothing runs.

    ``digest``: of the image that runs. ``user``: what holds the machine, or None.
    """

    pid: int | None
    paused: bool
    port: int | None
    digest: str | None
    up_s: float | None
    user: str | None


class Machine:
    """A board with its disk and keys in ``folder``, which boots ``image`` (None: it can do all but boot).

    One user at a time has it, by :meth:`using`; otherwise it is paused, and its clock with it, and takes no processor
    time. All methods may be called from several processes.
    """

    def __init__(self, image: Image | None, folder: Path | None = None) -> None:
        self.image = image
        self.folder = (folder or board_cache() / "qemu").absolute()

    @contextmanager
    def using(
        self, what: str, *, timeout_s: float = -1, waiting: Callable[[str], None] | None = None
    ) -> Iterator[Self]:
        """Have the machine alone, booted and running, inside the block; it is paused afterwards.

        Args:
            what: who the user is, for others to see.
            timeout_s: how long to wait for other users; for ever by default.
            waiting: is told once when another user has the machine.

        Raises:
            BoardError: another user still has it, or it does not boot.
        """
        with self.having(what, timeout_s=timeout_s, waiting=waiting):
            self.boot()
            try:
                yield self
            finally:
                with suppress(BoardError):  # it is gone: paused enough
                    self.pause()

    @contextmanager
    def having(
        self, what: str, *, timeout_s: float = -1, waiting: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """As :meth:`using`, but the machine is left as it is found."""
        lock = self._lock("use.lock")
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if waiting:
                    waiting(f"waiting for the board, which {self._user() or 'another process'} uses")
                lock.acquire(timeout=timeout_s)
        except filelock.Timeout:
            user = self._user() or "another process"
            raise BoardError(
                f"the board in {self.folder} is used by {user}; after {timeout_s:g} s no end of it"
            ) from None
        try:
            write(self.folder / _USER, {"pid": os.getpid(), "what": what})
            yield
        finally:
            (self.folder / _USER).unlink(missing_ok=True)
            lock.release()

    def boot(self) -> None:
        """See that the board runs, with this image, and answers; does nothing but resume it where it does.

        Raises:
            BoardError: it cannot be started, or does not come up; with the end of what it said.
        """
        if self.image is None:
            raise BoardError("the board's image is not built: leakboard board build")
        with self._lock("boot.lock"):
            state = self._state()
            wanted = (True, self.image.digest, vm.mode())
            if self.is_running() and state and (state.ready, state.digest, state.mode) == wanted:
                with suppress(BoardLost):  # it hangs: start another
                    self.resume()
                    return
            self._end()
            self._boot(self.image)

    def stop(self) -> None:
        """End the board's process; nothing that it has written is lost. Does nothing where there is none."""
        with self._lock("boot.lock"):
            self._end()

    def kill(self) -> None:
        """Pull the plug: SIGKILL, now."""
        pid = vm.find(self.folder)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._gone(_END_S)

    def reset(self) -> None:
        """Stop the board and give it an empty disk: its secure storage, the device key in it, is lost."""
        with self._lock("boot.lock"):
            self._end()
            make_disk(self.folder / vm.DISK)

    def pause(self) -> None:
        """Stop the board's processors and its clock.

        Raises:
            BoardLost: there is no board, or it does not answer.
        """
        qmp.ask(self.folder, "stop")

    def resume(self) -> None:
        """Let it go on.

        Raises:
            BoardLost: there is no board, or it does not answer.
        """
        qmp.ask(self.folder, "cont")

    def is_running(self) -> bool:
        """Whether its process exists, paused or not."""
        return vm.find(self.folder) is not None

    def status(self) -> MachineStatus:
        """What it is doing now."""
        pid = vm.find(self.folder)
        state = self._state() if pid is not None else None
        paused = False
        if pid is not None:
            with suppress(BoardLost):
                paused = qmp.ask(self.folder, "query-status").get("status") == "paused"
        return MachineStatus(
            pid=pid,
            paused=paused,
            port=state.port if state else None,
            digest=state.digest if state else None,
            up_s=time.time() - state.started if state else None,
            user=self._user(),
        )

    def target(self) -> SshTarget:
        """How to reach it by SSH.

        Raises:
            BoardLost: it does not run.
        """
        state = self._state()
        if state is None or not self.is_running():
            raise BoardLost(f"no board runs in {self.folder} (leakboard board boot)")
        return SshTarget("root", "127.0.0.1", state.port, keys.ssh_options(self.folder))

    def said(self, lines: int = 20) -> str:
        """The end of both consoles, for messages."""
        logs = {"normal world": vm.NORMAL_LOG, "secure world": vm.SECURE_LOG}
        return "\n".join(f"--- {world} ---\n{tail(self.folder / name, lines)}" for world, name in logs.items())

    def _lock(self, name: str) -> filelock.FileLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BoardError(f"cannot keep a board in {self.folder}: {error.strerror}") from error
        return filelock.FileLock(self.folder / name)

    def _boot(self, image: Image) -> None:
        started = time.time()
        try:
            keys.make_keys(self.folder)
            if not (self.folder / vm.DISK).exists():
                make_disk(self.folder / vm.DISK)
            for name in (_STATE, qmp.SOCKET, vm.NORMAL_LOG, vm.SECURE_LOG):
                (self.folder / name).unlink(missing_ok=True)
            initrd = image.initrd.read_bytes()
            padding = bytes(-len(initrd) % 4)
            (self.folder / vm.INITRD).write_bytes(initrd + padding + keys.overlay(self.folder))
        except OSError as error:
            raise BoardError(f"cannot keep a board in {self.folder}: {error}") from error
        state = State(self._start(image), image.digest, vm.mode(), started, ready=False)
        write(self.folder / _STATE, asdict(state))
        try:
            self._await_ready()
            self.target().run("true", timeout_s=BOOT_S)
        except BaseException:
            self._end()
            raise
        write(self.folder / _STATE, {**asdict(state), "ready": True})

    def _start(self, image: Image) -> int:
        for _ in range(_PORTS):
            port = vm.free_port()
            try:
                vm.start(image, self.folder, port)
                return port
            except BoardError as error:
                if "forwarding" not in str(error):
                    raise
                taken = error  # between finding the port and using it
        raise taken

    def _await_ready(self) -> None:
        end = time.monotonic() + BOOT_S
        log = self.folder / vm.NORMAL_LOG
        while time.monotonic() < end:
            said = log.read_text(errors="replace") if log.exists() else ""
            if READY in said:
                return
            if FAILED in said:
                what = said.partition(FAILED)[2].partition("\n")[0].strip()
                hint = "\nleakboard board reset gives it an empty disk" if "storage" in what else ""
                raise BoardError(f"the board did not come up: {what}{hint}\n{self.said()}")
            if not self.is_running():
                raise BoardError(f"QEMU ended while the board booted\n{self.said()}")
            time.sleep(_POLL_S)
        raise BoardError(f"the board did not come up in {BOOT_S:g} s\n{self.said()}")

    def _end(self) -> None:
        if self.is_running():
            with suppress(BoardLost):
                qmp.ask(self.folder, "quit")
            if not self._gone(_END_S):
                self.kill()
        (self.folder / _STATE).unlink(missing_ok=True)

    def _gone(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while self.is_running():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        return True

    def _state(self) -> State | None:
        return read_state(self.folder / _STATE)

    def _user(self) -> str | None:
        user = read(self.folder / _USER) or {}
        return f"{user.get('what')} (process {user['pid']})" if _lives(user.get("pid")) else None


def _lives(pid: object) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()
