"""A store of content-keyed artefacts: made once, checked on every read, safe between processes.

An entry is a folder named by its key, with a ``manifest.json`` that lists the parts the key was made of and the
SHA-256 of every file. It is written beside its place and renamed into it, so a half-written entry is never seen.

Behind the folder may stand a store that several machines share (``suite.remote_store``): what is not here is fetched
from there, and what is made here is put there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from device.cache import cache_root
from suite.provenance import hash_file, hash_json

if TYPE_CHECKING:
    from suite.remote_store import Remote

URL_ENV = "LEAKBOARD_STORE"
MANIFEST = "manifest.json"
_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)
_STALE_S = 86_400.0


class Busy(Exception):
    """Another process is making the entry."""


class StoreError(RuntimeError):
    """The store cannot be written, or one of its entries is damaged; names the path and the way out."""


@dataclass(frozen=True, slots=True)
class Key:
    """A step's identity: its ``kind`` and everything its output depends on, as JSON-able ``parts``."""

    kind: str
    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256, hex, over kind and parts."""
        return hash_json({"kind": self.kind, "parts": dict(self.parts)})

    @property
    def id(self) -> str:
        """Folder name, short enough to read and long enough to be unique."""
        return f"{self.kind}-{self.digest[:24]}"


class Store:
    """Artefacts under one root folder, and behind it the shared store at ``url``, if any.

    Without a root it is the user's own store, and ``LEAKBOARD_STORE`` the default of ``url``.

    Raises:
        StoreError: the folder cannot be created or written, or there cannot be a store at the URL.
    """

    def __init__(self, root: Path | None = None, url: str | None = None) -> None:
        url = url or (os.environ.get(URL_ENV) if root is None else None)
        self.root = root or cache_root() / "store"
        self.shared = _shared(url) if url else None
        try:
            for name in ("entries", "partial", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self.root / "partial" / f".probe-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {self.root}: {error.strerror}; set LEAKBOARD_CACHE to a folder that you may"
                " write"
            ) from error
        for stale in (self.root / "partial").glob("fetch-*") if self.shared else ():
            with contextlib.suppress(OSError):  # fetched meanwhile
                if stale.stat().st_mtime < time.time() - _STALE_S:
                    shutil.rmtree(stale)  # whoever fetched it was killed

    @property
    def url(self) -> str | None:
        """The URL of the shared store as it was given, which may hold a password; ``shared.shown`` does not."""
        return self.shared.url if self.shared else None

    def path(self, key: Key) -> Path:
        """Where the entry is, or would be."""
        return self.root / "entries" / key.id

    def find(self, key: Key) -> Path | None:
        """The checked entry of ``key``, or None when it was not made yet.

        Raises:
            StoreError: the entry is there but damaged, or the shared store cannot be reached.
        """
        entry = self.path(key)
        if entry.is_dir():
            verify(entry, key)
            if self.shared:
                self.shared.push(entry)
            return entry
        return self._fetched(key) if self.shared else None

    def _fetched(self, key: Key) -> Path | None:
        """The entry of ``key``, now also here, when the shared store has it."""
        assert self.shared is not None
        aside, entry = self.root / "partial" / f"fetch-{uuid.uuid4().hex}", self.path(key)
        try:
            aside.mkdir()
            if not self.shared.fetch(key, aside):
                return None
            os.replace(aside, entry)
        except OSError as error:
            if not entry.is_dir():  # nobody else fetched it meanwhile
                raise StoreError(f"cannot write store entry {entry}: {error}") from error
            verify(entry, key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return entry

    def get(self, key: Key, make: Callable[[Path, Path], None], *, wait: bool = True) -> Path:
        """The entry of ``key``, made by ``make(folder, scratch)`` if it is not there.

        ``folder`` takes the entry's files. ``scratch`` survives an interruption and is handed to the next attempt at
        the same key, for checkpoints; it is removed once the entry stands. One process makes an entry, others wait.

        Raises:
            Busy: another process is making it, and ``wait`` is false.
            StoreError: the entry is damaged, or the disk refuses.
        """
        found = self.find(key)
        if found:
            return found
        try:
            held = filelock.FileLock(self.root / "locks" / f"{key.id}.lock").acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            raise Busy(key.id) from None
        except OSError as error:
            raise StoreError(f"cannot lock store entry {self.path(key)}: {error}") from error
        with held:
            found = self.find(key)
            if found:
                return found
            scratch = self.root / "partial" / key.id
            folder = self.root / "partial" / f"{key.id}.{uuid.uuid4().hex[:8]}"
            for stale in (self.root / "partial").glob(f"{key.id}.*"):
                shutil.rmtree(stale, ignore_errors=True)  # left by a killed attempt; we hold the lock
            try:
                scratch.mkdir(exist_ok=True)
                folder.mkdir()
                make(folder, scratch)
                self._seal(folder, key)
                os.replace(folder, self.path(key))
            except OSError as error:
                if error.errno not in _DISK_REFUSES:
                    raise  # from what ``make`` does besides writing
                raise StoreError(f"cannot write store entry {self.path(key)}: {error}") from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(scratch, ignore_errors=True)
            if self.shared:
                self.shared.push(self.path(key))
        return self.path(key)

    def _seal(self, folder: Path, key: Key) -> None:
        files = {str(p.relative_to(folder)): hash_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        manifest = {"kind": key.kind, "digest": key.digest, "parts": dict(key.parts), "files": files}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")

    def entries(self) -> Iterator[Path]:
        """Every entry's folder."""
        yield from sorted((self.root / "entries").iterdir())


def _shared(url: str) -> Remote:
    from suite.remote_store import Remote

    return Remote(url)


def verify(entry: Path, key: Key | None = None) -> None:
    """Check an entry against its manifest, and the manifest against ``key``.

    Raises:
        StoreError: a file is missing, changed or of another key; names it and how to get rid of the entry.
    """
    way_out = "; 'leakboard store repair' removes it, and it will be made again"
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        files, digest = dict(manifest["files"]), manifest["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"store entry {entry} is damaged: {MANIFEST} cannot be read ({error}){way_out}") from error
    if key is not None and digest != key.digest:
        raise StoreError(f"store entry {entry} is damaged: its manifest is of another key{way_out}")
    for name, expected in files.items():
        path = entry / name
        if not path.is_file():
            raise StoreError(f"store entry {entry} is damaged: {name} is missing{way_out}")
        if _content_of(path) != expected:
            raise StoreError(f"store entry {entry} is damaged: {name} was changed{way_out}")


_SETTLED_S = 1.0
"""A file that was written longer ago has another time once it is written again."""


def _content_of(path: Path) -> str:
    """As ``hash_file``; a file that has not changed since this process read it is not read again."""
    told = path.stat()
    if time.time() - max(told.st_mtime, told.st_ctime) < _SETTLED_S:
        return hash_file(path)
    return _settled(path, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@functools.lru_cache(maxsize=100_000)
def _settled(path: Path, *told: int) -> str:
    return hash_file(path)
