"""The cache of everything that is made once per content of its inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock
import platformdirs

from device.board import BoardError


def cache_root() -> Path:
    """``LEAKBOARD_CACHE``, or the folder that this system means for caches."""
    return Path(os.environ.get("LEAKBOARD_CACHE") or platformdirs.user_cache_dir("leakboard")).absolute()


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def content_key(parts: Iterable[str], files: Iterable[Path], base: Path) -> str:
    """SHA-256, hex, over texts and files; these by their names below ``base``, or their last names, and contents."""
    digest = hashlib.sha256("\0".join(parts).encode())
    for file in files:
        content = file.read_bytes()
        name = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def made_once(parent: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``parent/name``; when it does not exist yet, ``make`` fills it, aside, under a lock.

    Raises:
        BoardError: the file system refuses. What ``make`` raises passes through, and nothing is left.
    """
    folder = parent / name
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(parent / f"{name}.lock"):
            if not folder.is_dir():
                aside = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
                try:
                    make(aside)
                    os.replace(aside, folder)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise BoardError(f"cannot build in {parent}: {error} (LEAKBOARD_CACHE chooses another folder)") from error
    return folder
