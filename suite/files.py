"""Files that commands read and write: whole, or an error that names them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from device.board import BoardError


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        BoardError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BoardError(f"cannot read {path}: {error.strerror}") from error


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write beside its place first, then into it: nobody finds half a file.

    Raises:
        BoardError: it cannot be written.
    """
    try:
        fd, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            Path(aside).chmod(mode)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BoardError(f"cannot write {path}: {error.strerror}") from error
