"""Reading members out of tar (gz, xz, bz2 or plain) and zip archives, without unpacking to disk."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from victims.data.errors import CorruptFile

Select = Callable[[str], str | None]
"""Maps a member's path inside its archive (``/`` between parts) to the key to keep it under; None: skip."""

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    OSError,
)


def read_archive(path: Path, select: Select) -> dict[str, bytes]:
    """Contents of the members of the archive at ``path`` that ``select`` keeps, in the archive's order.

    Raises:
        CorruptFile: The archive ends early or does not decompress.
    """
    try:
        return _read_zip(path, select) if path.suffix == ".zip" else _read_tar(path, select)
    except _DAMAGE as error:
        size = path.stat().st_size
        raise CorruptFile(path, f"cannot be read ({error}), {size:,} bytes: truncated or damaged") from error


def gunzip(path: Path, content: bytes) -> bytes:
    """``content`` without its gzip wrapping. Raises :class:`CorruptFile`, naming ``path``."""
    try:
        return gzip.decompress(content)
    except _DAMAGE as error:
        raise CorruptFile(
            path, f"does not decompress ({error}), {len(content):,} bytes: truncated or damaged"
        ) from error


def _read_tar(path: Path, select: Select) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r:*") as archive:  # not "r|*": its 10 KiB blocks take xz twice the time
        for member in archive:
            key = select(member.name.removeprefix("./")) if member.isfile() else None
            if key is None:
                continue
            stream = archive.extractfile(member)
            assert stream is not None  # it is a plain file
            found[key] = stream.read()
            if len(found[key]) != member.size:
                raise EOFError(f"{member.name} ends after {len(found[key]):,} of {member.size:,} bytes")
    return found


def _read_zip(path: Path, select: Select) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            key = None if info.is_dir() else select(info.filename)
            if key is not None:
                found[key] = archive.read(info)
    return found
