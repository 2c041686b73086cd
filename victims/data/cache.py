"""Decoded arrays on disk: memory-mappable, verified whenever they are loaded, never half written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from victims.data.dataset import Dataset, content_fingerprint
from victims.data.errors import CorruptFile, DataError

FORMAT = 1  # counts up when decoded content or this layout changes: older records are ignored
ENVIRONMENT = "LEAKBOARD_CACHE"
_ARRAYS = ("images", "labels", "groups")


@dataclass(frozen=True, slots=True)
class Cached:
    """A data set out of the cache, and the local candidates (:func:`origin_of`) of when it was decoded."""

    dataset: Dataset
    origin: list[list[str | int]]


def folder() -> Path:
    """The folder of decoded data sets: ``$LEAKBOARD_CACHE/data``, or the user's cache folder."""
    named = os.environ.get(ENVIRONMENT)
    home = Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("leakboard"))
    return home.resolve() / "data"


def make(home: Path) -> None:
    """Make the cache folder. Raises :class:`DataError` if that cannot be."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise DataError(
            f"the cache folder {home} cannot be written ({error}); set {ENVIRONMENT} to one that can"
        ) from error


def origin_of(candidates: Sequence[Path]) -> list[list[str | int]]:
    """What identifies local candidates without reading them: name, bytes and modification time in ns."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in candidates]


def has(home: Path, name: str) -> bool:
    """Whether the cache seems to hold ``name``; not verified."""
    return _record_path(home, name).is_file()


def read(home: Path, name: str) -> Cached | None:
    """The cached data set, every byte verified against its record, or None if there is none.

    Raises:
        CorruptFile: A file is damaged, truncated, missing or of another record.
    """
    record_path = _record_path(home, name)
    try:
        record = json.loads(record_path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CorruptFile(record_path, f"cannot be read ({error})") from error
    except ValueError as error:
        raise CorruptFile(record_path, f"is no JSON ({error})") from error
    if record.get("format") != FORMAT:
        return None
    try:
        place = home / record["folder"]
        images, labels, groups = (_map(place / f"{array}.npy") for array in _ARRAYS)
        found = content_fingerprint(images, labels, record["n_classes"])
        if found != record["fingerprint"]:
            raise CorruptFile(place, f"content has sha256 {found}, expected {record['fingerprint']}")
        if _groups_checksum(groups) != record["groups_sha256"]:
            raise CorruptFile(place / "groups.npy", f"has sha256 {_groups_checksum(groups)}")
        dataset = Dataset(name, images, labels, record["n_classes"], groups, record["fingerprint"], record["source"])
        return Cached(dataset, record["origin"])
    except (KeyError, TypeError) as error:
        raise CorruptFile(record_path, f"is no record of this format ({error!r})") from error


def write(home: Path, dataset: Dataset, origin: list[list[str | int]]) -> None:
    """Put ``dataset`` into the cache. The record is written last, so that a reader sees all of it or none.

    The caller holds the data set's lock.

    Raises:
        DataError: The disk is full or cannot be written.
    """
    try:
        _write(home, dataset, origin)
    except OSError as error:
        raise DataError(f"cannot keep {dataset.name} in {home} ({error}); set {ENVIRONMENT} elsewhere") from error


def _write(home: Path, dataset: Dataset, origin: list[list[str | int]]) -> None:
    for left_behind in home.glob(f"{dataset.name}.write-*"):  # by a process that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    name = f"{dataset.name}-{dataset.fingerprint[:16]}"
    aside = Path(tempfile.mkdtemp(prefix=f"{dataset.name}.write-", dir=home))
    try:
        for array in _ARRAYS:
            np.save(aside / f"{array}.npy", np.ascontiguousarray(getattr(dataset, array)))
        if (home / name).is_dir():  # damaged, or of an older record: replace file by file, readers may map the old
            for array in _ARRAYS:
                os.replace(aside / f"{array}.npy", home / name / f"{array}.npy")
        else:
            os.chmod(aside, 0o755)
            os.rename(aside, home / name)
        record = {
            "format": FORMAT,
            "folder": name,
            "n_classes": dataset.n_classes,
            "fingerprint": dataset.fingerprint,
            "groups_sha256": _groups_checksum(dataset.groups),
            "source": dataset.source,
            "origin": origin,
        }
        record_aside = _record_path(home, dataset.name).with_suffix(".json.new")
        record_aside.write_text(json.dumps(record, indent=1))
        os.replace(record_aside, _record_path(home, dataset.name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _record_path(home: Path, name: str) -> Path:
    return home / f"{name}.json"


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise CorruptFile(path, f"cannot be read ({error})") from error


def _groups_checksum(groups: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(groups).data).hexdigest()
