"""What a board reached by SSH says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from device.ssh import SshTarget

_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
}
"""Arm's part numbers (MIDR_EL1), as the kernel shows them."""

_UNKNOWN = "unknown"

_ASK = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say kernel "$(uname -sr)"
say cores "$(grep -c ^processor /proc/cpuinfo)"
say part "$(grep -m1 '^CPU part' /proc/cpuinfo | cut -d: -f2)"
say revision "$(grep -m1 '^CPU revision' /proc/cpuinfo | cut -d: -f2)"
say model "$(tr -d '\0' < /proc/device-tree/model)"
say optee "$(dmesg | grep -m1 'optee: revision' | cut -d: -f2)"
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """Kernel, board model, CPU, number of cores, and OP-TEE's version as its driver reported it at boot."""

    kernel: str
    model: str
    cpu: str
    cores: int
    optee: str


def read_facts(target: SshTarget) -> Facts:
    """Ask the board.

    Raises:
        BoardLost, BoardError: it cannot be asked.
    """
    answer = target.run(f"{{ {_ASK} }} 2>/dev/null; true")
    found = {name: value.strip() for name, _, value in (line.partition("=") for line in answer.splitlines())}
    part, revision = found.get("part", ""), found.get("revision", "")
    cores = found.get("cores", "")
    return Facts(
        kernel=found.get("kernel") or _UNKNOWN,
        model=found.get("model") or _UNKNOWN,
        cpu=f"{_PARTS.get(part, f'Arm part {part or _UNKNOWN}')}{f' r0p{revision}' if revision else ''}",
        cores=int(cores) if cores.isdigit() else 1,
        optee=optee_version(found.get("optee", "")),
    )


def optee_version(said: str) -> str:
    """``4.5`` or ``4.5 (abcdef12)`` of ``revision 4.5 (abcdef12)``."""
    match = re.search(r"revision\s+(\S+(?:\s+\([0-9a-f]+\))?)", said)
    return match[1] if match else "unknown: the kernel's log does not tell"
