"""A board that is reached by SSH: the agent and the TA are put there, and the agent is talked to through ``ssh``."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import filelock

from device import cross
from device.board import Board, BoardError, BoardLost, DeploymentFiles, Session
from device.cache import cache_root
from device.client import AgentSession, ask_device_key
from device.connection import Connection
from device.cross import Agent
from device.holding import Holding
from device.remote_facts import Facts, read_facts
from device.remote_files import NOT_THERE, put_files, start_command
from device.ssh import SshTarget

DEV_KIT_ENV = "LEAKBOARD_TA_DEV_KIT"
"""Names the TA dev kit (``export-ta_arm64``) of the OP-TEE that runs on an ``ssh://`` board."""

PI_TEE_LIMIT_BYTES = cross.limit_bytes(8064 * 1024)
"""The largest TA heap that loads on OP-TEE's port to the Raspberry Pi 3 as it is configured there, with its stack."""

PATIENCE_S = 180.0
FAREWELL_S = 15.0
"""Closing a TA wipes its memory; a slow board takes its time, and the next session finds no room before."""
RETURN_S = 120.0
"""How long a board that was lost may take to come back by itself."""

_LINE_BROKE = 255

Progress = Callable[[str], None]
T = TypeVar("T")


class _NotDeployed(BoardError):
    """The board has not the agent or the TA that is wanted; it may never have had them, or it was set up anew."""


class RemoteBoard(Board):
    """A board behind an SSH target, with Linux's TEE driver and tee-supplicant running.

    ``tee_limit_bytes`` is what the TA is built for: its heap, stack and static data.
    """

    mode = "hardware"
    """Of its time: whether a clock ticks there, or instructions are counted."""

    def __init__(
        self,
        target: SshTarget,
        tee_limit_bytes: int = PI_TEE_LIMIT_BYTES,
        *,
        dev_kit: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is reached yet.

        Args:
            target: the board's account.
            tee_limit_bytes: bounds the TA's memory.
            dev_kit: of the board's OP-TEE; ``LEAKBOARD_TA_DEV_KIT`` by default.
            progress: is told what takes long.

        Raises:
            BoardError: the limit leaves the TA no heap.
        """
        self.name = target.slug
        self._address = target
        self._limit = tee_limit_bytes
        self._heap = cross.heap_bytes(tee_limit_bytes)
        self._given_kit = dev_kit
        self._holding = Holding(self._taken)
        self._tell: Progress = progress or (lambda _: None)

    def fingerprint(self) -> str:  # noqa: D102  (see Board)
        parts = [self.name, self.mode, str(int(self.clock)), str(self._limit), self._agent.file.parent.name]
        parts += [self._ta_key(), *self._identity()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def describe(self) -> Mapping[str, str | int]:  # noqa: D102  (see Board)
        facts, agent = self._facts, self._agent
        return {
            "board": self.name,
            "mode": self.mode,
            "optee": facts.optee,
            "kernel": facts.kernel,
            "model": facts.model,
            "cpu": facts.cpu,
            "cores": facts.cores,
            "compiler": agent.compiler,
            "flags": " ".join(agent.flags),
            "tee_limit_bytes": self._limit,
            "ta_heap_bytes": self._heap,
            "clock": self._clock_text(),
        }

    def tee_limit_bytes(self) -> int:  # noqa: D102  (see Board)
        return self._limit

    def open(self, files: DeploymentFiles) -> Session:  # noqa: D102  (see Board)
        def load(connection: Connection) -> Session:
            return AgentSession(connection, files, self._limit, self.clock)

        return self._ask(load, with_ta=files.sealed is not None)

    def device_key(self) -> bytes:  # noqa: D102  (see Board)
        def read(connection: Connection) -> bytes:
            key = ask_device_key(connection)
            connection.close()
            return key

        return self._ask(read, with_ta=True)

    def recover(self) -> None:
        """Wait until the board can be reached again: it may be rebooting.

        Raises:
            BoardError: it does not come back.
        """
        until = time.monotonic() + RETURN_S
        self._tell(f"waiting for {self.name} to come back")
        while True:
            try:
                self.target().run("true", timeout_s=30.0)
                return
            except BoardLost as error:
                if time.monotonic() > until:
                    raise BoardError(f"{error}; it did not come back in {RETURN_S:g} s") from error
            time.sleep(2.0)

    def target(self) -> SshTarget:
        """How to reach it now."""
        return self._address

    def dev_kit(self) -> Path:
        """The TA dev kit that belongs to the board's OP-TEE.

        Raises:
            BoardError: none is given.
        """
        if self._given_kit is not None:
            return self._given_kit
        named = os.environ.get(DEV_KIT_ENV)
        if not named:
            raise BoardError(
                f"{self.name}: what is hidden needs a TA built for this board's OP-TEE: name its TA dev kit (the folder"
                f" export-ta_arm64 of that OP-TEE's build) in {DEV_KIT_ENV}"
            )
        return Path(named).absolute()

    def _identity(self) -> tuple[str, ...]:
        """What tells this device from others, beside what is built for it."""
        facts = self._facts
        return (str(self._address), facts.optee, facts.kernel, facts.model, facts.cpu, str(facts.cores))

    def _clock_text(self) -> str:
        return "CLOCK_MONOTONIC of the board"

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Have the board before all other processes of this machine: its TEE has room for one deployment."""
        folder = cache_root() / "board"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / f"{self.name}.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self._tell(f"waiting for the board {self.name}, which another process uses")
                lock.acquire()
        except OSError as error:
            raise BoardError(f"cannot lock a board in {folder}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    @functools.cached_property
    def _agent(self) -> Agent:
        """Built once: what a board object puts there does not change under a run."""
        return cross.build_agent()

    @functools.cached_property
    def _ta(self) -> Path:
        return cross.build_ta(self.dev_kit(), self._heap)

    def _ta_key(self) -> str:
        """Of the TA's build; a board without a dev kit runs what hides nothing."""
        return self._ta.parent.name if self._given_kit or os.environ.get(DEV_KIT_ENV) else "no TA"

    @functools.cached_property
    def _facts(self) -> Facts:
        with self._holding.held():
            return read_facts(self.target())

    def _ask(self, what: Callable[[Connection], T], *, with_ta: bool) -> T:
        """``what`` of a fresh agent, which is put on the board first where it is not there yet."""
        agent, ta = self._agent, self._ta if with_ta else None

        def attempt() -> T:
            connection = self._connect(agent, ta)
            try:
                return what(connection)
            except BaseException:
                connection.close()
                raise

        with self._holding.held():
            try:
                return attempt()
            except _NotDeployed:
                self._tell(f"putting the agent{'' if ta is None else ' and the TA'} on {self.name}")
                put_files(self.target(), agent, ta)
            try:
                return attempt()
            except _NotDeployed as error:
                raise BoardError(f"{self.target()}: agent and TA do not stay where they were put: {error}") from error

    def _connect(self, agent: Agent, ta: Path | None) -> Connection:
        """Start the agent, provided that it and the TA are there as they should be."""
        command = start_command(agent, ta)
        release = self._holding.hold()
        stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (the connection closes it)
        try:
            target = self.target()
            process = target.popen(command, stderr)
        except BaseException:
            stderr.close()
            release()
            raise

        def explain(status: int, said: str) -> BoardError | None:
            if status == NOT_THERE:
                return _NotDeployed(f"{target} has not the agent and the TA of this version")
            return target.failure(said) if status == _LINE_BROKE else None

        return Connection(
            process, stderr, patience_s=PATIENCE_S, farewell_s=FAREWELL_S, explain=explain, on_end=release
        )
