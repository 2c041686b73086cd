"""Choosing a board by name."""

from __future__ import annotations

from pathlib import Path

from device.board import Board, BoardError
from device.cache import cache_root
from device.emulated import DEFAULT_TEE_LIMIT_BYTES, EmulatedBoard
from device.qemu.board import TEE_LIMIT_BYTES, QemuBoard
from device.remote import PI_TEE_LIMIT_BYTES, RemoteBoard
from device.ssh import parse_target
from suite.progress import announce
from suite.registry import REGISTRY, Kind, Plugin, PluginError, did_you_mean, discover

BOARDS = ("emulated", "qemu")
SSH = "ssh://"
SSH_FORM = "ssh://user@host[:port]"


def make_board(name: str, tee_mib: float | None = None, *, kept: bool = False) -> Board:
    """The board of that name, its secure world limited to ``tee_mib`` MiB; None for the board's own limit.

    Nothing is built, booted or reached yet. ``kept``: an emulated board that is the same device every time, with its
    secure storage in the cache, instead of a new one a session.

    Raises:
        PluginError: no such board, or a limit that is no positive number or leaves the TA no heap.
    """
    plugin = None if name in BOARDS or name.startswith(SSH) else _plugin(name)
    if tee_mib is not None and not 0 < tee_mib < 4096:
        raise PluginError(f"--tee-mib {tee_mib:g}: the TEE's memory limit is a number of MiB above 0")
    limit = None if tee_mib is None else int(tee_mib * 2**20)
    try:
        if plugin is not None:
            return plugged_in(plugin, limit)
        if name == "emulated":
            return EmulatedBoard(limit or DEFAULT_TEE_LIMIT_BYTES, storage=_storage() if kept else None)
        if name == "qemu":
            return QemuBoard(limit or TEE_LIMIT_BYTES, progress=announce)
        return RemoteBoard(parse_target(name), limit or PI_TEE_LIMIT_BYTES, progress=announce)
    except BoardError as error:
        raise PluginError(str(error)) from error


def plugged_in(plugin: Plugin, limit_bytes: int | None = None) -> Board:
    """The board of a plugin; None for its own limit.

    Raises:
        PluginError: it cannot be made so; names the plugin, its file and line.
    """
    try:
        made: Board = plugin.cls() if limit_bytes is None else plugin.cls(tee_limit_bytes=limit_bytes)
    except TypeError as error:
        raise PluginError(
            f"board {plugin.name!r} ({plugin.where}): it must be made without arguments, and with tee_limit_bytes=..."
            f" alone: {error}"
        ) from error
    return made


def _plugin(name: str) -> Plugin:
    discover((Kind.BOARD,))
    known = [plugin.name for plugin in REGISTRY.all(Kind.BOARD)]
    if name not in known:
        raise PluginError(f"unknown board {name!r}{did_you_mean(name, (*BOARDS, SSH_FORM, *known))}")
    return REGISTRY.get(Kind.BOARD, name)


def _storage() -> Path:
    folder = cache_root() / "emulated-device"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BoardError(f"cannot make {folder} for the emulated board's secure storage: {error.strerror}") from error
    return folder
