"""A night from its begin to its end: health, cells in a process of their own, restarts, and what is left to do."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.board import Board, BoardError
from device.cache import cache_root
from device.qemu.board import QemuBoard
from suite import provenance
from suite.boards import make_board
from suite.nightly import reviving
from suite.nightly.child import LATE, STUCK, Child, end_orphan
from suite.nightly.folders import JOURNAL, NightError, differing, night_folder, now_utc
from suite.nightly.health import Health, ailments, nothing_known, read_health
from suite.nightly.lock import board_lock
from suite.nightly.measuring import whole
from suite.nightly.night import FAILED, FINISHED, RUNNING, Night, read_night
from suite.nightly.sampling import Sampler
from suite.progress import duration
from suite.session import tee_mib

Tell = Callable[[str], None]
NOT_REACHED = "not reached before the night ended"
_USAGE_ERROR, _INTERRUPTED = 4, 2
_LOOK_AGAIN_S = 60.0
_TAIL = 15


@dataclass(frozen=True, slots=True)
class Plan:
    """What a night is to do. ``cells``: pytest's options by name (``-k`` too) that say what is measured, and how.

    ``stuck_s``: how long a cell may take; ``restart``: a shell command that restarts the board; ``max_temperature_c``:
    None judges no temperature. Times in seconds.
    """

    board: str
    folder: Path
    date: str
    cells: Mapping[str, Any]
    max_attempts: int = 3
    time_limit_s: float = 10 * 3600.0
    stuck_s: float = 1800.0
    sample_s: float = 60.0
    max_temperature_c: float | None = None
    min_free_mib: float = 128.0
    wait_healthy_s: float = 1800.0
    restart: str | None = None


def run_night(plan: Plan, tell: Tell) -> tuple[Night, Path]:
    """Run the night, or go on with it where it was cut off; the night as it ended, and its folder.

    Ctrl-C leaves it as a power cut does: the same call goes on.

    Raises:
        NightError: it cannot begin: the board is another night's, or unhealthy, or the cells are not what there is.
        PluginError, BoardError: there is no such board, or it cannot be asked how it is.
    """
    limit = plan.cells.get("tee_mib")
    board = make_board(plan.board, tee_mib(limit))
    folder = night_folder(plan.folder.absolute(), board.name, plan.date)
    with board_lock(board.name, folder):
        night = _opened(plan, board, folder, tell)
        if night.state == FINISHED:
            tell(f"the night of {night.date} on {board.name} is finished; nothing to do")
            return night, folder
        idle = isinstance(board, QemuBoard) and (bool(night.resumed_utc) or not board.machine.is_running())
        try:
            night.health_before = dataclasses.asdict(_healthy(plan, board, tell))
            night.write(folder)
            with Sampler(folder, lambda: read_health(board, between=False), plan.sample_s) as sampler:
                try:
                    _attempts(plan, board, night, folder, tell)
                finally:
                    night.health_samples += sampler.taken
            night.health_after = dataclasses.asdict(_health_after(board))
        finally:
            board.close()
            if idle and isinstance(board, QemuBoard):
                with suppress(BoardError), board.machine.having("leakboard nightly", timeout_s=_LOOK_AGAIN_S):
                    board.machine.stop()
        for name in night.missing:
            night.failed.setdefault(name, NOT_REACHED)
        night.state = FINISHED if night.cells and not night.missing else FAILED
        night.finished_utc = now_utc()
        night.write(folder)
        if night.state == FINISHED:
            shutil.rmtree(_answers(board, folder), ignore_errors=True)
        return night, folder


def _opened(plan: Plan, board: Board, folder: Path, tell: Tell) -> Night:
    """The night's state, begun now or read; nothing of an earlier call runs any more."""
    night = read_night(folder)
    if night is None:
        night = Night(board.name, plan.date, dict(plan.cells), now_utc())
        night.versions = {"leakboard": provenance.suite_version(), **provenance.versions()}
    elif night.cells and (changed := differing(night.options, plan.cells)):
        raise NightError(
            f"the night of {plan.date} on {board.name} was begun with other options: {'; '.join(changed)}; call it as"
            " then to go on with it, or choose another --date"
        )
    elif night.state != FINISHED:
        night.options = dict(plan.cells)
        night.resumed_utc.append(now_utc())
        for attempt in night.attempts:
            if attempt["ended_utc"] is None:
                attempt["ended_utc"], attempt["ended_by"] = now_utc(), "cut off with the night"
                if end_orphan(attempt["pid"], folder / JOURNAL):
                    tell(f"ended process {attempt['pid']}, which measured on without its night")
        night.done = [name for name in night.cells if whole(folder, plan.cells["profile"], name)]
        tell(f"going on with the night of {night.date}: {len(night.done)} of {len(night.cells)} cells are measured")
    if night.state != FINISHED:
        night.state = RUNNING
        night.write(folder)
    return night


def _healthy(plan: Plan, board: Board, tell: Tell) -> Health:
    """The board's health, once nothing speaks against a night; one that does not answer may be starting.

    Raises:
        NightError: something still does after ``wait_healthy_s``.
    """
    until = time.monotonic() + plan.wait_healthy_s
    while True:
        try:
            found = read_health(board)
            ills = ailments(found, plan.max_temperature_c, plan.min_free_mib)
            if not ills:
                return found
        except BoardError as error:
            ills = [f"it cannot be asked how it is: {error}"]
        if time.monotonic() >= until:
            raise NightError(f"no night on board {board.name}: {'; '.join(ills)}")
        tell(f"waiting for board {board.name}: {'; '.join(ills)}")
        time.sleep(min(_LOOK_AGAIN_S, max(0.1, until - time.monotonic())))


def _health_after(board: Board) -> Health:
    try:
        return read_health(board)
    except BoardError as error:
        return nothing_known(" ".join(str(error).split()))


def _attempts(plan: Plan, board: Board, night: Night, folder: Path, tell: Tell) -> None:
    """Run the cells until all are measured, or the attempts or the time are over."""
    until = time.monotonic() + plan.time_limit_s
    for number in range(1, plan.max_attempts + 1):
        status = _attempt(plan, board, night, folder, until, tell)
        if status == LATE or (night.cells and not night.missing):
            return
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        if status == STUCK:
            try:
                reviving.revive(board, plan.restart, tell)
            except BoardError as error:
                night.attempts[-1]["ended_by"] += f"; the board does not come back: {' '.join(str(error).split())}"
                night.write(folder)
                return
        left = f"{len(night.missing)} of {len(night.cells)} cells are not measured"
        tell(f"attempt {number} of {plan.max_attempts} ended ({night.attempts[-1]['ended_by']}): {left}")


def _attempt(plan: Plan, board: Board, night: Night, folder: Path, until: float, tell: Tell) -> int | str:
    """Run what is missing, once. How it ended: pytest's exit status, STUCK or LATE.

    Raises:
        NightError: pytest refuses the options, or there is no such cell.
    """
    number = len(night.attempts) + 1
    log = folder / f"attempt-{number}.log"
    child = Child(folder, _answers(board, folder), pytest_options(plan), log)
    about: dict[str, Any] = {
        "number": number, "pid": child.process.pid, "started_utc": now_utc(), "ended_utc": None, "ended_by": None,
        "log": log.name,
    }  # fmt: skip
    night.attempts.append(about)
    night.write(folder)

    def note(event: Mapping[str, Any]) -> None:
        if take(night, event):
            night.write(folder)
            if event["event"] == "ended":
                tell(f"{len(night.done)}/{len(night.cells)} {event['cell']}{said(event)}")

    def busy() -> bool:
        user = reviving.user_of(board, child.process.pid)
        if user:
            tell(f"board {board.name} is used by {user}; waiting")
        return bool(user)

    try:
        status = child.watch(note, plan.stuck_s, until, busy)
    except BaseException:
        child.interrupt()
        raise
    if status == LATE:
        child.interrupt()
    elif status == STUCK:
        child.kill()
    about["ended_utc"] = now_utc()
    about["ended_by"] = {
        LATE: f"the time limit of {duration(plan.time_limit_s)}",
        STUCK: f"no cell began or ended in {duration(plan.stuck_s)}: killed",
    }.get(str(status), f"pytest's exit status {status}")
    night.write(folder)
    if not night.cells and status not in (STUCK, LATE):
        (folder / "night.json").unlink()  # so that the next call may have other options
        raise NightError(f"no night: pytest found no cell to run (status {status}); {log} ends with\n{_tail(log)}")
    return status


def take(night: Night, event: Mapping[str, Any]) -> bool:
    """Bring the state up to date with what the measuring process told; whether it changed."""
    if event["event"] == "asked":
        night.cells = list(dict.fromkeys([*night.cells, *event["cells"]]))
        night.excluded = dict(event["excluded"])
        return True
    if event["event"] != "ended":
        return False
    cell = event["cell"]
    if event["record"] and cell not in night.done:
        night.done.append(cell)
    if event["failed"]:
        night.failed[cell] = event["reason"] or "it failed without a word"
    else:
        night.failed.pop(cell, None)
    return True


def said(event: Mapping[str, Any]) -> str:
    """How a cell ended, for a line of progress."""
    return f": FAILED: {event['reason']}" if event["failed"] else ""


def pytest_options(plan: Plan) -> list[str]:
    """The command line of the suite's plugin."""
    found = ["--board", plan.board]
    for name, value in plan.cells.items():
        if value is None:
            continue
        if name == "k":
            found += ["-k", value]
        elif name == "plugin":
            found += [word for path in value for word in ("--plugin", path)]
        else:
            found.append(f"--{name.replace('_', '-')}={value}")
    return found


def _answers(board: Board, folder: Path) -> Path:
    """Where what the board answers in this night is kept while it runs."""
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return cache_root() / "nightly" / board.name / name


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-_TAIL:])
