"""Pinned checksums: what a file's bytes must be before they are used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from victims.data.errors import CorruptFile


@dataclass(frozen=True, slots=True)
class Pin:
    """The checksum that a file's bytes must have. ``algorithm`` is a name of :mod:`hashlib`."""

    algorithm: str
    digest: str

    def of(self, content: bytes) -> str:
        """The checksum that ``content`` has, in this pin's algorithm."""
        return hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest()

    def of_file(self, path: Path) -> str:
        """The checksum that the file at ``path`` has."""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.new(self.algorithm, usedforsecurity=False)).hexdigest()

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


def sha256(digest: str) -> Pin:
    """A SHA-256 pin."""
    return Pin("sha256", digest)


def md5(digest: str) -> Pin:
    """An MD5 pin: the only kind that some data sets publish; guards against damage, not against malice."""
    return Pin("md5", digest)


def sha1(digest: str) -> Pin:
    """A SHA-1 pin."""
    return Pin("sha1", digest)


def verify(place: Path, member: str, content: bytes, pin: Pin) -> bytes:
    """Return ``content`` of ``member`` (in the file or folder ``place``) if it has the checksum ``pin``.

    Raises:
        CorruptFile: It has not.
    """
    found = pin.of(content)
    if found != pin.digest:
        raise CorruptFile(
            place, f"{member} has {pin.algorithm} {found}, expected {pin.digest} ({len(content):,} bytes)"
        )
    return content
