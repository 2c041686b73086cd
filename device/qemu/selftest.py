"""Asking a running board whether it is what it should be: a real OP-TEE, and memory that is really closed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from device.board import BoardError
from device.ssh import SshTarget

_SIGBUS = 128 + 7
_RESERVED = re.compile(r"reserved mem: 0x([0-9a-f]+)\.\.0x([0-9a-f]+) .* (optee_(?:core|shm))@")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    good: bool
    detail: str


def self_test(target: SshTarget, optee_version: str) -> Iterator[Finding]:
    """Look at one thing after the other. ``optee_version``: of the package, ``4.5.0-2``.

    Raises:
        BoardError: the board cannot be asked.
    """
    log = target.run("dmesg")
    revision = re.search(r"optee: revision (\S+)", log)
    good = revision is not None and optee_version.startswith(f"{revision[1]}.")
    yield Finding(
        "OP-TEE answers the kernel", good, f"revision {revision[1]}" if revision else "no line in the kernel's log"
    )
    yield _devices(target)
    supplicant = target.run("pidof tee-supplicant || true").strip()
    yield Finding("tee-supplicant runs", supplicant.isdigit(), f"process {supplicant}" if supplicant else "no process")
    yield from _memory(target, log)
    storage = target.run("grep /var/lib/optee-client/data /proc/mounts || true").split()
    yield Finding("secure storage is on the disk", storage[2:3] == ["ext4"], " ".join(storage[:3]) or "not mounted")
    yield Finding("no fault in the kernel's log", *_faults(log))
    free = int(re.findall(r"MemAvailable:\s+(\d+)", target.run("cat /proc/meminfo"))[0]) // 1024
    yield Finding("memory is free", free > 256, f"{free} MiB")


def _devices(target: SshTarget) -> Finding:
    found = target.run("for d in tee0 teepriv0; do [ -c /dev/$d ] && echo $d; done; true").split()
    return Finding("both TEE devices are there", found == ["tee0", "teepriv0"], " ".join(found) or "none")


def _memory(target: SshTarget, log: str) -> Iterator[Finding]:
    """Read what the normal world may read, and what it may not, by the same means."""
    areas = {name: (int(first, 16), int(last, 16)) for first, last, name in _RESERVED.findall(log)}
    if set(areas) != {"optee_core", "optee_shm"}:
        yield Finding("secure memory is closed", False, "the kernel's log does not say where it is")
        return
    shared = _read_word(target, areas["optee_shm"][0])
    yield Finding("shared memory is open", shared == 0, f"{areas['optee_shm'][0]:#x}: {_outcome(shared)}")
    first, last = areas["optee_core"]
    for address in (first, (first + last) // 2 & ~0xFFF, last & ~0xFFF):
        status = _read_word(target, address)
        yield Finding("secure memory is closed", status == _SIGBUS, f"{address:#x}: {_outcome(status)}")


def _read_word(target: SshTarget, address: int) -> int:
    """The exit status of reading one word of physical memory as the normal world's root."""
    said = target.run(f"devmem {address:#x} 32 >/dev/null 2>&1; echo $?").strip()
    if not said.isdigit():
        raise BoardError(f"the board's shell answers {said!r} instead of a number")
    return int(said)


def _outcome(status: int) -> str:
    return {0: "readable", _SIGBUS: "a bus error, nothing read"}.get(status, f"devmem exits {status}")


def _faults(log: str) -> tuple[bool, str]:
    bad = [line for line in log.splitlines() if re.search(r"Oops|BUG:|Call trace|panic -|EXT4-fs error", line)]
    return not bad, bad[0] if bad else "none"
