"""Choosing a board by name."""

from __future__ import annotations

from device.board import Board, BoardError
from device.emulated import DEFAULT_TEE_LIMIT_BYTES, EmulatedBoard
from device.qemu.board import TEE_LIMIT_BYTES, QemuBoard
from device.remote import PI_TEE_LIMIT_BYTES, RemoteBoard
from device.ssh import parse_target
from suite.progress import announce
from suite.registry import PluginError, did_you_mean

BOARDS = ("emulated", "qemu")
SSH = "ssh://"
SSH_FORM = "ssh://user@host[:port]"


def make_board(name: str, tee_mib: float | None = None) -> Board:
    """The board of that name, its secure world limited to ``tee_mib`` MiB; None for the board's own limit.

    Nothing is built, booted or reached yet.

    Raises:
        PluginError: no such board, or a limit that is no positive number or leaves the TA no heap.
    """
    if name not in BOARDS and not name.startswith(SSH):
        raise PluginError(f"unknown board {name!r}{did_you_mean(name, (*BOARDS, SSH_FORM))}")
    if tee_mib is not None and not 0 < tee_mib < 4096:
        raise PluginError(f"--tee-mib {tee_mib:g}: the TEE's memory limit is a number of MiB above 0")
    limit = None if tee_mib is None else int(tee_mib * 2**20)
    try:
        if name == "emulated":
            return EmulatedBoard(limit or DEFAULT_TEE_LIMIT_BYTES)
        if name == "qemu":
            return QemuBoard(limit or TEE_LIMIT_BYTES, progress=announce)
        return RemoteBoard(parse_target(name), limit or PI_TEE_LIMIT_BYTES, progress=announce)
    except BoardError as error:
        raise PluginError(str(error)) from error
