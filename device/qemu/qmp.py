"""Talking with a running QEMU: pause, go on, quit."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from device.board import BoardLost

SOCKET = "qmp.sock"
TIMEOUT_S = 20.0
_MOST_BYTES = 1 << 20


def ask(folder: Path, command: str) -> dict[str, Any]:
    """Let the QEMU whose socket is in ``folder`` run one command; what it returns.

    Raises:
        BoardLost: it is not there, does not answer or refuses.
    """
    try:
        # A socket's address has room for 107 bytes, less than a cache folder's name may take: go through a descriptor.
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(f"/proc/self/fd/{here}/{SOCKET}")
                return _exchange(connection, command)
        finally:
            os.close(here)
    except (OSError, ValueError) as error:
        raise BoardLost(f"QEMU does not answer {command!r} on {folder / SOCKET}: {error}") from error


def _exchange(connection: socket.socket, command: str) -> dict[str, Any]:
    with connection.makefile("rwb") as stream:
        stream.readline(_MOST_BYTES)  # the greeting
        result: dict[str, Any] = {}
        for request in ("qmp_capabilities", command):
            stream.write(json.dumps({"execute": request}).encode() + b"\n")
            stream.flush()
            result = _answer(stream)
        return result


def _answer(stream: Any) -> dict[str, Any]:
    while line := stream.readline(_MOST_BYTES):
        message = json.loads(line)
        if "error" in message:
            raise ValueError(message["error"].get("desc", "refused"))
        if "return" in message:
            returned = message["return"]
            return returned if isinstance(returned, dict) else {}
    raise ConnectionError("the connection ended")
