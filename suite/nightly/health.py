"""How a board is: temperature, throttling, memory, clocks, OP-TEE; what cannot be read is None, with the reason."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from device.board import Board, BoardError, BoardLost
from device.qemu.board import QemuBoard
from device.remote import RemoteBoard
from device.remote_facts import optee_version
from suite.nightly.folders import now_utc

Shell = Callable[[str], str]
"""Runs a command in a POSIX shell and returns what it wrote to stdout; raises BoardError where it cannot."""

ANSWER_S = 30.0
MAX_TEMPERATURE_C = 60.0
"""Where a Raspberry Pi 3B+ lowers its clock (``temp_soft_limit`` of its firmware): its times are others then."""
MIN_FREE_MIB = 128.0
_THROTTLED = {0: "under-voltage", 1: "its clock is capped", 2: "throttled", 3: "at its soft temperature limit"}
"""Bits of the firmware's ``get_throttled`` that speak of now; those 16 higher say that it was so since it booted."""

_ASK = r"""
say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$2"; }
say temperature "$(cat /sys/class/thermal/thermal_zone*/temp | sort -n | tail -n 1)"
if command -v vcgencmd > /dev/null; then
    say throttled "$(vcgencmd get_throttled | cut -d= -f2)"
    say hertz "$(vcgencmd measure_clock arm | cut -d= -f2)"
elif [ -r /sys/devices/platform/soc/soc:firmware/get_throttled ]; then
    say throttled "0x$(cat /sys/devices/platform/soc/soc:firmware/get_throttled)"
fi
say khz "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq)"
say most_khz "$(cat /sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq)"
say governor "$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor)"
say free "$(grep MemAvailable /proc/meminfo | tr -dc 0-9)"
say total "$(grep MemTotal /proc/meminfo | tr -dc 0-9)"
say load "$(cut -d' ' -f1 /proc/loadavg)"
say optee "$(dmesg | grep -m1 'optee: revision' | cut -d: -f2)"
say time "$(date +%s)"
"""


@dataclass(frozen=True, slots=True)
class Health:
    """One look at a board. None where ``unknown`` has the reason, by field.

    ``throttled``: the firmware's word, hexadecimal; ``throttled_now``: what of it holds at this moment, "" for nothing.
    ``clock_skew_s``: the board's clock minus the host's, good to a second or two.
    """

    at_utc: str
    temperature_c: float | None = None
    throttled: str | None = None
    throttled_now: str | None = None
    cpu_mhz: float | None = None
    cpu_max_mhz: float | None = None
    governor: str | None = None
    memory_free_mib: float | None = None
    memory_total_mib: float | None = None
    load_1min: float | None = None
    optee: str | None = None
    clock_skew_s: float | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)


FIELDS = tuple(one.name for one in dataclasses.fields(Health) if one.name not in ("at_utc", "unknown"))
_WHY = {
    "temperature_c": "the board has no thermal zone in /sys/class/thermal",
    "throttled": "the board has neither vcgencmd nor the firmware's get_throttled in /sys",
    "cpu_mhz": "the board has neither cpufreq nor vcgencmd",
    "cpu_max_mhz": "the board has no cpufreq",
    "governor": "the board has no cpufreq",
    "memory_free_mib": "the board's /proc/meminfo does not tell",
    "memory_total_mib": "the board's /proc/meminfo does not tell",
    "load_1min": "the board's /proc/loadavg does not tell",
    "optee": "the kernel's log does not tell of OP-TEE",
    "clock_skew_s": "the board's date does not tell seconds",
}


def read_health(board: Board, *, between: bool = True) -> Health:
    """How the board is now: of a board reached by SSH itself, of an emulated one this machine.

    ``between``: no cell runs, so that a board that is paused or off may be started for it; else such a board is left
    alone, and its health is unknown.

    Raises:
        BoardLost, BoardError: it cannot be asked.
    """
    if isinstance(board, QemuBoard):
        if not between:
            status = board.machine.status()
            if status.pid is None or status.paused:
                return nothing_known("the board is paused, or off, between sessions")
            return ask(lambda command: board.target().run(command, ANSWER_S))
        with board.machine.using("leakboard nightly"):
            return ask(lambda command: board.target().run(command, ANSWER_S))
    if isinstance(board, RemoteBoard):
        return ask(lambda command: board.target().run(command, ANSWER_S))
    found = ask(_here)
    why = {**found.unknown, "optee": "an emulated board has none", "clock_skew_s": "the board has this machine's clock"}
    return dataclasses.replace(found, optee=None, clock_skew_s=None, unknown=why)


def nothing_known(why: str) -> Health:
    """The health of a board that cannot be asked."""
    return Health(now_utc(), unknown=dict.fromkeys(FIELDS, why))


def ask(shell: Shell) -> Health:
    """Ask by one command; half of the time that it took counts as the way back, for the clock's skew."""
    began = time.time()
    said = shell(f"{{ {_ASK} }} 2>/dev/null; true")
    ended = time.time()
    found = {name: value.strip() for name, _, value in (line.partition("=") for line in said.splitlines())}

    def number(name: str, factor: float) -> float | None:
        text = found.get(name, "")
        return float(text) * factor if re.fullmatch(r"-?\d+(\.\d+)?", text) else None

    word = found.get("throttled", "")
    bits = int(word, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", word) else None
    clock = number("time", 1.0)
    mhz = number("hertz", 1e-6)
    values = {
        "temperature_c": number("temperature", 1e-3),
        "throttled": None if bits is None else hex(bits),
        "throttled_now": None if bits is None else ", ".join(t for bit, t in _THROTTLED.items() if bits >> bit & 1),
        "cpu_mhz": number("khz", 1e-3) if mhz is None else mhz,
        "cpu_max_mhz": number("most_khz", 1e-3),
        "governor": found.get("governor"),
        "memory_free_mib": number("free", 1 / 1024),
        "memory_total_mib": number("total", 1 / 1024),
        "load_1min": number("load", 1.0),
        "optee": optee_version(found["optee"]) if "optee" in found else None,
        "clock_skew_s": None if clock is None else round(clock + 0.5 - (began + ended) / 2, 1),
    }
    unknown = {name: _WHY.get(name, _WHY["throttled"]) for name, value in values.items() if value is None}
    return Health(now_utc(), **values, unknown=unknown)  # type: ignore[arg-type]


def ailments(health: Health, max_temperature_c: float | None, min_free_mib: float) -> list[str]:
    """Why no night should begin on a board that is so; what is unknown is no reason.

    ``max_temperature_c``: None judges neither temperature nor throttling.
    """
    found = []
    if max_temperature_c is not None:
        if health.temperature_c is not None and health.temperature_c > max_temperature_c:
            found.append(f"it is at {health.temperature_c:.1f} C, allowed {max_temperature_c:g} C (--max-temperature)")
        if health.throttled_now:
            found.append(
                f"its firmware says {health.throttled_now} ({health.throttled}): see to its supply and cooling"
            )
    if health.memory_free_mib is not None and health.memory_free_mib < min_free_mib:
        found.append(f"{health.memory_free_mib:.0f} MiB of memory are free, {min_free_mib:g} must be (--min-free-mib)")
    return found


def _here(command: str) -> str:
    try:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise BoardLost(f"this machine took longer than {ANSWER_S:g} s to tell how it is") from None
    except OSError as error:
        raise BoardError(f"cannot run sh: {error.strerror}") from error
    return done.stdout
