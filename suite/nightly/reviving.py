"""Bringing back a board on which cells got stuck."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from device.board import Board, BoardError
from device.qemu.board import QemuBoard

RESTART_S = 120.0


def user_of(board: Board, pid: int) -> str | None:
    """Who has a board that processes share, where that is not the run that ``pid`` leads; None otherwise."""
    if not isinstance(board, QemuBoard):
        return None
    user = board.machine.status().user
    return None if user is None or f"run {pid}-" in user else user


def revive(board: Board, restart: str | None, tell: Callable[[str], None]) -> None:
    """Restart the board: an emulated machine by pulling its plug, another by ``restart``, a shell command of this host.

    Raises:
        BoardError: it does not come back.
    """
    if isinstance(board, QemuBoard):
        tell("pulling the plug of the board qemu; it boots for the next cell")
        board.machine.kill()
        return
    if restart is not None:
        tell(f"restarting the board {board.name}: {restart}")
        try:
            done = subprocess.run(restart, shell=True, capture_output=True, text=True, timeout=RESTART_S, check=False)
        except subprocess.TimeoutExpired:
            raise BoardError(f"--restart {restart!r} took longer than {RESTART_S:g} s") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or "it said nothing"
            raise BoardError(f"--restart {restart!r} exited with {done.returncode}: {said}")
    board.recover()
