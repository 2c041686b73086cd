"""Power meters against a bus with real register words, and what becomes of their readings."""

import itertools
import os
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from record_samples import latency_sample

from device.emulated import EmulatedBoard
from device.power_meter import BoardBus, HostBus, Ina219, Ina260, MeterError, MeterSpec, parse_meter, swapped
from suite import published_pi
from suite.energy import measure, modelled, refuse_unmeasurable
from suite.session import Options, Run, UsageError


class FakeBus:
    """Registers as the chip has them; an INA219's reset does what the chip's does."""

    def __init__(self, registers, resets_to=0x399F):
        self.registers, self.resets_to, self.written, self.closed = dict(registers), resets_to, [], False

    def read_word(self, register):
        return self.registers.get(register, 0)

    def write_word(self, register, value):
        self.written.append((register, value))
        self.registers[register] = self.resets_to if register == 0 and value & 0x8000 else value

    def close(self):
        self.closed = True


def test_ina219_sets_calibration_and_reads_power():
    """5.12 V at 0.5 A: bus voltage 1280 x 4 mV, and with 97.7 uA a unit 1310.7 counts of 20 units times a volt."""
    bus = FakeBus({2: 1280 << 3 | 2, 3: 1311})
    meter = Ina219(bus)
    assert bus.written == [(0, 0x8000), (5, 4194), (0, 0x3FFF)]
    assert meter.read_mw() == pytest.approx(5.12 * 500, rel=1e-3)


def test_ina219_with_another_shunt_has_another_unit():
    bus = FakeBus({3: 1000})
    meter = Ina219(bus, shunt_mohm=10.0)  # ten times the current for the same voltage
    assert meter.read_mw() == pytest.approx(10 * Ina219(FakeBus({3: 1000})).read_mw(), rel=1e-3)


def test_ina219_refuses_what_overflows_and_what_is_none():
    with pytest.raises(MeterError, match=r"more than 3\.2 A"):
        Ina219(FakeBus({2: 1280 << 3 | 1})).read_mw()
    with pytest.raises(MeterError, match="0x6127, not 0x399f"):
        Ina219(FakeBus({}, resets_to=0x6127))


def test_ina260_knows_its_own_name_and_counts_ten_milliwatts():
    bus = FakeBus({0xFE: 0x5449, 0xFF: 0x2270, 3: 0x0100})
    assert Ina260(bus).read_mw() == 2560.0
    assert bus.written == [(0, 0x6527)]
    with pytest.raises(MeterError, match="no INA260 there: maker 0x0000"):
        Ina260(FakeBus({}))


def test_words_go_over_the_wire_high_byte_first(monkeypatch):
    sent = []
    wire = SimpleNamespace(
        read_word_data=lambda address, register: 0x9F39,
        write_word_data=lambda *what: sent.append(what),
        close=lambda: None,
    )
    monkeypatch.setitem(__import__("sys").modules, "smbus2", SimpleNamespace(SMBus=lambda number: wire))
    bus = HostBus(1, 0x41)
    assert bus.read_word(0) == 0x399F
    bus.write_word(5, 0x1062)
    assert sent == [(0x41, 5, 0x6210)]
    assert swapped(swapped(0x1234)) == 0x1234


I2C = """#!/bin/sh
case "$0 $*" in
*i2cset*) echo "$*" >> {log} ;;
*i2cget*0x00*) echo 0x9f39 ;;
*i2cget*0x03*) echo 0x1f05 ;;
*) echo "Error: Read failed" >&2; exit 2 ;;
esac
"""


def test_a_meter_on_the_boards_own_bus_is_read_through_one_shell(tmp_path):
    """By a stand-in for i2c-tools and a local shell in the place of SSH's."""
    for name in ("i2cget", "i2cset"):
        (tmp_path / name).write_text(I2C.format(log=tmp_path / "set"))
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    pipe = subprocess.PIPE
    target = SimpleNamespace(popen=lambda command: subprocess.Popen(["sh"], stdin=pipe, stdout=pipe, env=env))
    bus = BoardBus(target, 1, 0x40)
    try:
        assert bus.read_word(0) == 0x399F
        bus.write_word(5, 0x1062)
        assert bus.read_word(3) == 0x051F
        with pytest.raises(MeterError, match="Error: Read failed"):
            bus.read_word(9)
        assert bus.read_word(0) == 0x399F
    finally:
        bus.close()
    assert (tmp_path / "set").read_text() == "-y 1 0x40 0x05 0x6210 w\n"


def test_a_meter_without_its_library_or_bus_says_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "smbus2", None)
    with pytest.raises(MeterError, match=r"leakboard\[power\]"):
        MeterSpec("ina219").open(None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("ina220", "write none, ina219"),
        ("ina219[bus=one]", "whole numbers"),
        ("ina260[shunt_mohm=2]", "no setting 'shunt_mohm'"),
        ("none[bus=1]", "no setting 'bus'"),
        ("ina219[on=pi]", "on is host or board"),
        ("ina219[address=0x99]", "address 0x08 to 0x77"),
    ],
)
def test_bad_meters_are_refused(text, what):
    with pytest.raises(MeterError, match=what):
        parse_meter(text)


def test_a_meter_is_read_from_its_text():
    assert parse_meter("ina219[bus=3, address=0x41, on=board, shunt_mohm=10]") == MeterSpec(
        "ina219", 3, 0x41, "board", 10.0
    )


def test_no_meter_for_a_board_that_is_emulated():
    with pytest.raises(MeterError, match="what it takes, no board takes"):
        refuse_unmeasurable(MeterSpec("ina219"), EmulatedBoard())
    with pytest.raises(UsageError, match="board qemu is emulated"):
        Run(Options(board="qemu", profile="smoke", victims="vgg7", meter="ina260"))


class FakeSession:
    """Queries of 200 us on the board's clock; the power is higher while they run."""

    def __init__(self):
        self.busy = False

    def time(self, image, rounds, noops=200):
        self.busy = True
        time.sleep(0.4)
        self.busy = False
        return SimpleNamespace(total_ns=np.full(rounds, 200_000))


def test_energy_is_power_above_rest_times_the_time_of_a_query():
    session = FakeSession()
    wobble = itertools.cycle([-1.0, 1.0])
    meter = SimpleNamespace(
        name="ina219", note="made up", read_mw=lambda: (3000.0 if session.busy else 2000.0) + next(wobble)
    )
    found = measure(meter, session, np.zeros((1, 8, 8), np.float32), 200.0, windows=3, window_s=0.4)
    assert found.source == "measured"
    assert found.per_query_uj.value == pytest.approx(200.0, rel=0.01)  # 1 W for 200 us
    assert found.per_query_uj.low <= 200.5
    assert found.per_query_uj.high >= 199.5
    assert found.idle_mw == pytest.approx(2000, abs=2)
    assert found.n_queries == 3 * 2000


def test_a_meter_that_fails_while_queries_run_is_an_error():
    def fail():
        raise MeterError("the wire came off")

    with pytest.raises(MeterError, match="came off"):
        measure(SimpleNamespace(name="x", note="", read_mw=fail), FakeSession(), np.zeros(1), 200.0, window_s=0.1)


def test_modelled_energy_is_of_the_published_board_alone():
    latency = latency_sample()[0].latency
    pi = {"model": "Raspberry Pi 3 Model B Plus Rev 1.3", "mode": "hardware"}
    found = modelled(pi, latency)
    above = published_pi.FULL_W - published_pi.IDLE_W
    assert found.source == "modelled"
    assert found.per_query_uj.value == pytest.approx(latency.protected_us.median * above)
    assert found.n_queries == 0
    assert modelled({"model": "Raspberry Pi 4 Model B", "mode": "hardware"}, latency) is None
    assert modelled({"model": "linux,dummy-virt", "mode": "icount"}, latency) is None
    assert modelled({}, latency) is None
