"""What energy a query takes: measured by a power meter, or modelled from what is published of the board."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from statistics import fmean, stdev
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from device.board import Board, DeploymentFiles, Session
from device.power_meter import NONE, Meter, MeterError, MeterSpec, parse_meter
from device.remote import RemoteBoard
from suite import published_pi
from suite.estimate import Estimate
from suite.record import EnergyInfo, LatencyInfo

T = TypeVar("T")

WINDOWS, WINDOW_S = 5, 3.0
"""Of queries, each with one of rest before it."""
_EVERY_S = 0.05
_PI = "Raspberry Pi 3 Model B Plus"
"""What the device tree of the board calls itself that power is published of."""


def energy_of(
    meter: MeterSpec, board: Board, files: DeploymentFiles, image: NDArray[np.float32], latency: LatencyInfo
) -> EnergyInfo | None:
    """The energy of a query of a deployment; None where there is no meter and nothing is published of the board.

    Raises:
        MeterError: the meter fails, or the board is none that has a power of its own.
        BoardError: the board fails.
    """
    if meter.kind == NONE:
        return modelled(board.describe(), latency)
    refuse_unmeasurable(meter, board)
    target = board.target() if isinstance(board, RemoteBoard) else None
    opened = meter.open(target)
    try:
        with board.open(files) as session:
            return measure(opened, session, image, latency.protected_us.median)
    finally:
        opened.close()


def refuse_unmeasurable(meter: MeterSpec, board: Board) -> None:
    """Refuse a meter for a board that is only emulated.

    Raises:
        MeterError: it would measure this machine.
    """
    if meter.kind != NONE and (not isinstance(board, RemoteBoard) or board.mode != RemoteBoard.mode):
        raise MeterError(f"--meter {meter.kind}: board {board.name} is emulated; what it takes, no board takes")


def modelled(about: Mapping[str, str | int], latency: LatencyInfo) -> EnergyInfo | None:
    """Time times published power above idle, of the board that it is published of; None of any other."""
    if not str(about.get("model", "")).startswith(_PI) or about.get("mode") != RemoteBoard.mode:
        return None
    watts = published_pi.FULL_W - published_pi.IDLE_W
    span = latency.protected_us
    return EnergyInfo(
        source="modelled",
        per_query_uj=Estimate(*(end * watts for end in (span.median, span.low, span.high))),
        meter=NONE,
        idle_mw=1000 * published_pi.IDLE_W,
        busy_mw=1000 * published_pi.FULL_W,
        n_queries=0,
        basis=(
            f"measured time times published power of a {published_pi.TITLE} with all cores busy, above idle; too much"
            " for a query that keeps fewer cores busy"
        ),
    )


def measure(
    meter: Meter,
    session: Session,
    image: NDArray[np.float32],
    query_us: float,
    *,
    windows: int = WINDOWS,
    window_s: float = WINDOW_S,
) -> EnergyInfo:
    """Power while queries run minus power at rest, times the time of a query: the mean of ``windows``, each with both.

    A window's queries are run by one call, and only readings from between its first and its last query count: the
    first and last tenth of the window are left out. The interval is Student's over windows.

    Raises:
        MeterError, BoardError: one of them fails.
    """
    rounds = max(2, round(1e6 * window_s / query_us))
    found: list[float] = []
    rest: list[float] = []
    busy: list[float] = []
    n_readings = 0
    session.time(image, 2, noops=0)
    for _ in range(windows):
        at_rest, _ = _read_while(meter, lambda: time.sleep(window_s))
        at_work, timings = _read_while(meter, lambda: session.time(image, rounds, noops=0))
        idle_mw, busy_mw = _mean(at_rest), _mean(at_work)
        n_readings += len(at_rest) + len(at_work)
        rest.append(idle_mw)
        busy.append(busy_mw)
        found.append((busy_mw - idle_mw) * float(timings.total_ns.mean()) / 1e6)  # mW times ns, as uJ
    half = float(student_t.ppf(0.975, len(found) - 1)) * stdev(found) / len(found) ** 0.5
    value = fmean(found)
    return EnergyInfo(
        source="measured",
        per_query_uj=Estimate(value, value - half, value + half),
        meter=meter.name,
        idle_mw=fmean(rest),
        busy_mw=fmean(busy),
        n_queries=windows * rounds,
        basis=(
            f"{meter.note}; {windows} windows of {rounds} queries, each after {window_s:g} s of rest with the session"
            f" open; {n_readings} readings"
        ),
    )


def _read_while(meter: Meter, work: Callable[[], T]) -> tuple[list[float], T]:
    """What the meter reads, in a thread of its own, while ``work()`` runs; and what that returns."""
    readings: list[float] = []
    failure: list[Exception] = []
    over = threading.Event()

    def read() -> None:
        try:
            while not over.is_set():
                readings.append(meter.read_mw())
                over.wait(_EVERY_S)
        except Exception as error:
            failure.append(error)

    reader = threading.Thread(target=read, name="power meter")
    reader.start()
    try:
        done = work()
    finally:
        over.set()
        reader.join()
    if failure:
        raise failure[0]
    return readings, done


def _mean(readings: list[float]) -> float:
    """Without the first and last tenth.

    Raises:
        MeterError: too few to tell.
    """
    edge = max(1, len(readings) // 10)
    kept = readings[edge:-edge]
    if len(kept) < 3:
        raise MeterError(f"the meter gave {len(readings)} readings in a window, too few; is its bus that slow?")
    return fmean(kept)


def meter_spec(text: str | None) -> MeterSpec:
    """The meter that was asked for, or none.

    Raises:
        MeterError: there is no such meter.
    """
    return parse_meter(text or NONE)
