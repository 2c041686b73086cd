"""Choosing a board by name."""

from __future__ import annotations

from device.board import Board
from device.emulated import EmulatedBoard
from suite.registry import PluginError, did_you_mean

BOARDS = ("emulated",)
DEFAULT_TEE_MIB = 16.0


def make_board(name: str, tee_mib: float) -> Board:
    """The board of that name, its secure world limited to ``tee_mib`` MiB.

    Raises:
        PluginError: no such board, or a limit that is no positive number.
    """
    if name not in BOARDS:
        raise PluginError(f"unknown board {name!r}{did_you_mean(name, BOARDS)}")
    if not 0 < tee_mib < 4096:
        raise PluginError(f"--tee-mib {tee_mib:g}: the TEE's memory limit is a number of MiB above 0")
    return EmulatedBoard(tee_limit_bytes=int(tee_mib * 2**20))
