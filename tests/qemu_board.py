"""The real board for tests: one machine for all workers of a test run, which have it one test at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator

import pytest

from device.board import BoardError
from device.qemu.host import check_host
from device.qemu.image import board_cache, build_image
from device.qemu.machine import Machine

WAIT_S = 300.0


@pytest.fixture(scope="session")
def qemu_machine_of_the_run() -> Iterator[Machine]:
    """The machine, built; the last worker to end stops it."""
    try:
        check_host()
    except BoardError as error:
        pytest.skip(str(error))
    folder = board_cache() / "qemu-tests"
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine(build_image(), folder)
    with (folder / "runs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield machine
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        machine.stop()


@pytest.fixture
def qemu_machine(qemu_machine_of_the_run, request) -> Iterator[Machine]:
    """The machine, booted and running, for this test alone; it is paused after it."""
    with qemu_machine_of_the_run.using(request.node.name, timeout_s=WAIT_S):
        yield qemu_machine_of_the_run
