"""Power meters on an I2C bus, of this machine or of the board: Texas Instruments' INA219 and INA260.

Both hold 16-bit registers, the high byte first. Figures are of the data sheets (INA219: SBOS448, INA260: SBOS656).
"""

from __future__ import annotations

import math
import os
import re
import select
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from device.board import BoardError
from device.ssh import SshTarget

NONE = "none"
_SPEC = re.compile(r"(?P<kind>[a-z0-9]+)(?:\[(?P<settings>[^\[\]]*)\])?")
_ANSWER_S = 10.0
_END = b"\n.\n"


class MeterError(BoardError):
    """A meter that cannot be reached, is another one, or measures beyond its range."""


class Bus(Protocol):
    """The registers of one device on an I2C bus, 16-bit words, the high byte first on the wire."""

    def read_word(self, register: int) -> int:
        """A register's value, 0 to 65535."""

    def write_word(self, register: int, value: int) -> None:
        """Set a register."""

    def close(self) -> None:
        """Let go of the bus."""


class HostBus:
    """A bus of this machine, ``/dev/i2c-<number>``, by smbus2.

    Raises:
        MeterError: smbus2 is not installed, or there is no such bus.
    """

    def __init__(self, number: int, address: int) -> None:
        try:
            from smbus2 import SMBus
        except ImportError as error:
            raise MeterError(
                "a meter on this machine's I2C bus needs smbus2: pip install 'leakboard[power]'"
            ) from error
        self._address = address
        self._where = f"meter at 0x{address:02x} of /dev/i2c-{number}"
        try:
            self._bus = SMBus(number)
        except OSError as error:
            raise MeterError(f"{self._where}: cannot open the bus: {error.strerror}; is I2C enabled?") from error

    def read_word(self, register: int) -> int:  # noqa: D102  (see Bus)
        try:
            return swapped(int(self._bus.read_word_data(self._address, register)))
        except OSError as error:
            raise MeterError(
                f"{self._where}: no answer ({error.strerror}); is it wired, and is this its address?"
            ) from error

    def write_word(self, register: int, value: int) -> None:  # noqa: D102  (see Bus)
        try:
            self._bus.write_word_data(self._address, register, swapped(value))
        except OSError as error:
            raise MeterError(
                f"{self._where}: no answer ({error.strerror}); is it wired, and is this its address?"
            ) from error

    def close(self) -> None:  # noqa: D102  (see Bus)
        self._bus.close()


class BoardBus:
    """A bus of a board that is reached by SSH, by ``i2cget`` and ``i2cset`` there, through one shell that stays open.

    Its commands take a little of the board's own processor while it measures.
    """

    def __init__(self, target: SshTarget, number: int, address: int) -> None:
        self._where = f"meter at 0x{address:02x} of I2C bus {number} on {target}"
        self._device = f"{number} 0x{address:02x}"
        self._shell = target.popen("exec sh")

    def read_word(self, register: int) -> int:  # noqa: D102  (see Bus)
        said = self._ask(f"i2cget -y {self._device} 0x{register:02x} w")
        if not re.fullmatch(r"0x[0-9a-fA-F]{1,4}", said):
            raise MeterError(f"{self._where}: i2cget says {said!r}; it takes i2c-tools on the board, and I2C enabled")
        return swapped(int(said, 16))

    def write_word(self, register: int, value: int) -> None:  # noqa: D102  (see Bus)
        said = self._ask(f"i2cset -y {self._device} 0x{register:02x} 0x{swapped(value):04x} w && echo set")
        if said != "set":
            raise MeterError(f"{self._where}: i2cset says {said!r}; it takes i2c-tools on the board, and I2C enabled")

    def close(self) -> None:  # noqa: D102  (see Bus)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()
        self._shell.stdout.close()

    def _ask(self, command: str) -> str:
        """One command, one line."""
        stdin, stdout = self._shell.stdin, self._shell.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(f"({command}) 2>&1 | head -n 1; echo; echo .\n".encode())
            stdin.flush()
        except OSError as error:
            raise MeterError(f"{self._where}: the line to the board broke") from error
        said = b""
        while not said.endswith(_END):
            if not select.select([stdout], [], [], _ANSWER_S)[0]:
                raise MeterError(f"{self._where}: no answer in {_ANSWER_S:g} s")
            came = os.read(stdout.fileno(), 4096)  # past Python's buffer, which select does not see
            if not came:
                raise MeterError(f"{self._where}: the line to the board broke")
            said += came
        return said[: -len(_END)].decode(errors="replace").strip()


def swapped(word: int) -> int:
    """The two bytes the other way round: SMBus sends a word's low byte first, these meters their high one."""
    return (word & 0xFF) << 8 | word >> 8


class Meter(ABC):
    """Reads the power that flows through it. ``name`` is its kind, ``note`` how it is set."""

    name: str
    note: str

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    @abstractmethod
    def read_mw(self) -> float:
        """The mean power of its last conversion, milliwatts.

        Raises:
            MeterError: it does not answer, or the current is beyond its range.
        """

    def close(self) -> None:
        """Let go of the bus."""
        self.bus.close()


class Ina219(Meter):
    """INA219 with a shunt of ``shunt_mohm``, 100 on the usual breakout: up to 3.2 A at its widest range of 320 mV.

    Configuration (register 0) 0x3FFF: 32 V, 320 mV, both converters on the mean of 128 samples (68.1 ms each),
    continuously. The current's unit is the largest current over 2^15; calibration (register 5) is 0.04096 over that
    unit and the shunt in ohms; the power register (3) counts 20 such units times a volt. Bit 0 of the bus voltage
    (register 2) says that power or current overflowed. A reset (bit 15 of the configuration) makes it 0x399F.
    """

    name = "ina219"
    default_address = 0x40
    _CONFIG, _BUS, _POWER, _CALIBRATION = 0, 2, 3, 5
    _RESET, _AFTER_RESET, _SETTING = 0x8000, 0x399F, 0x3FFF
    _RANGE_V = 0.32

    def __init__(self, bus: Bus, shunt_mohm: float = 100.0) -> None:
        """Reset it, make sure that it is one, and set it.

        Raises:
            MeterError: it does not answer, or as another device does.
        """
        super().__init__(bus)
        shunt = shunt_mohm / 1000
        self._unit_a = self._RANGE_V / shunt / 2**15
        self.note = f"INA219, shunt {shunt_mohm:g} mOhm, mean of 128 samples"
        bus.write_word(self._CONFIG, self._RESET)
        if (found := bus.read_word(self._CONFIG)) != self._AFTER_RESET:
            raise MeterError(f"no INA219 there: its configuration after a reset is 0x{found:04x}, not 0x399f")
        calibration = math.trunc(0.04096 / (self._unit_a * shunt)) & 0xFFFE  # bit 0 cannot be set
        self._unit_a = 0.04096 / (calibration * shunt)
        bus.write_word(self._CALIBRATION, calibration)
        bus.write_word(self._CONFIG, self._SETTING)

    def read_mw(self) -> float:  # noqa: D102  (see Meter)
        if self.bus.read_word(self._BUS) & 1:
            limit = self._unit_a * 2**15
            raise MeterError(f"more than {limit:.1f} A flow through the INA219: it takes a smaller shunt (shunt_mohm)")
        return self.bus.read_word(self._POWER) * 20 * self._unit_a * 1000


class Ina260(Meter):
    """INA260, whose shunt of 2 mOhm is inside.

    Configuration (register 0) 0x6527: the mean of 16 samples of current and voltage, 1.1 ms each, continuously. Power
    (register 3) counts 10 mW. Register 0xFE says 0x5449, "TI"; bits 15 to 4 of 0xFF say 0x227.
    """

    name = "ina260"
    default_address = 0x40
    note = "INA260, mean of 16 samples"
    _CONFIG, _POWER, _MAKER, _DIE = 0, 3, 0xFE, 0xFF
    _SETTING = 0x6527

    def __init__(self, bus: Bus) -> None:
        """Make sure that it is one, and set it.

        Raises:
            MeterError: it does not answer, or as another device does.
        """
        super().__init__(bus)
        maker, die = bus.read_word(self._MAKER), bus.read_word(self._DIE)
        if (maker, die >> 4) != (0x5449, 0x227):
            raise MeterError(f"no INA260 there: maker 0x{maker:04x} and die 0x{die:04x}, not 0x5449 and 0x227x")
        bus.write_word(self._CONFIG, self._SETTING)

    def read_mw(self) -> float:  # noqa: D102  (see Meter)
        return self.bus.read_word(self._POWER) * 10.0


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """A meter as it is asked for: ``ina219[bus=1,address=0x40,on=host,shunt_mohm=100]``, ``ina260`` or ``none``."""

    kind: str = NONE
    bus: int = 1
    address: int = 0x40
    on: str = "host"
    shunt_mohm: float = 100.0

    def open(self, target: SshTarget | None) -> Meter:
        """The meter, set. ``target``: the board, for a meter that is wired to it.

        Raises:
            MeterError: it cannot be reached, or is another one.
        """
        if self.on == "board" and target is None:
            raise MeterError("a meter on the board's own I2C bus takes a board that is reached by SSH")
        bus: Bus = BoardBus(target, self.bus, self.address) if self.on == "board" and target else self._host()
        try:
            return Ina260(bus) if self.kind == Ina260.name else Ina219(bus, self.shunt_mohm)
        except BaseException:
            bus.close()
            raise

    def _host(self) -> Bus:
        return HostBus(self.bus, self.address)


METERS = (NONE, Ina219.name, Ina260.name)


def parse_meter(text: str) -> MeterSpec:
    """Read a meter's specification.

    Raises:
        MeterError: there is no such meter or setting, or its value cannot be one.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None or match["kind"] not in METERS:
        raise MeterError(f"--meter {text!r}: write {', '.join(METERS)}, with settings as ina219[bus=1,address=0x40]")
    settings: dict[str, str] = {}
    for part in (match["settings"] or "").split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name:
            settings[name] = value
    known = ("bus", "address", "on", *(("shunt_mohm",) if match["kind"] == Ina219.name else ()))
    for name in settings:
        if name not in known or match["kind"] == NONE:
            raise MeterError(f"--meter {text!r}: {match['kind']} has no setting {name!r}")
    try:
        spec = MeterSpec(
            match["kind"],
            int(settings.get("bus", "1")),
            int(settings.get("address", "0x40"), 0),
            settings.get("on", "host"),
            float(settings.get("shunt_mohm", "100")),
        )
    except ValueError:
        raise MeterError(f"--meter {text!r}: bus and address are whole numbers, shunt_mohm is a number") from None
    if spec.on not in ("host", "board") or not 8 <= spec.address <= 0x77 or spec.bus < 0 or not spec.shunt_mohm > 0:
        raise MeterError(f"--meter {text!r}: on is host or board, address 0x08 to 0x77, bus from 0, shunt_mohm above 0")
    return spec
