"""Archives that the kernel unpacks as its first root file system ("newc" cpio), written without root."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_MAGIC = "070701"
_ALIGN = 4
_TRAILER = "TRAILER!!!"


@dataclass(slots=True)
class Archive:
    """A tree of folders, files and symbolic links, all owned by root, without dates. Paths have no leading slash."""

    _entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder, with those above it; an existing one gets ``mode``."""
        self._parents(path)
        self._entries[path] = (stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file, with the folders above it."""
        self._parents(path)
        self._entries[path] = (stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link, with the folders above it."""
        self._parents(path)
        self._entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def to_bytes(self) -> bytes:
        """The archive: the same tree gives the same bytes. Several can be strung together."""
        return b"".join(self._chunks())

    def _parents(self, path: str) -> None:
        if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} is no path inside an archive")
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) != ".":
                self._entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))

    def _chunks(self) -> Iterator[bytes]:
        # The kernel makes entries in order: a folder sorts before what is in it.
        for inode, (path, (mode, content)) in enumerate(sorted(self._entries.items()), 1):
            yield from _entry(inode, path, mode, content)
        yield from _entry(0, _TRAILER, 0, b"")


def _entry(inode: int, path: str, mode: int, content: bytes) -> Iterator[bytes]:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = _MAGIC.encode() + b"".join(b"%08X" % value for value in fields) + name
    yield head
    yield bytes(-len(head) % _ALIGN)
    yield content
    yield bytes(-len(content) % _ALIGN)
