"""A deployment in a folder: files for a device, sealed to it, and what its owner wants to know of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.board import BoardError, DeploymentFiles
from device.sealing import key_to_pem

SCHEMA = 1
ABOUT, PLAN, KEY = "deployment.json", "plan.txt", "device.pem"
PUBLIC, SEALED, SLICES = "public.lbm", "sealed.lbs", "sealed.lbs.slices"


@dataclass(frozen=True, slots=True)
class SealedDeployment:
    """What ``leakboard secure`` wrote. ``about`` is the content of ``deployment.json``."""

    folder: Path
    files: DeploymentFiles
    about: Mapping[str, Any]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of an image, (C, H, W)."""
        return tuple(self.about["model"]["input_shape"])

    @property
    def name(self) -> str:
        """Model and defense, for people."""
        return f"{self.about['model']['name']} under {self.about['defense']}"


def digest(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def read_deployment(folder: Path) -> SealedDeployment:
    """Read a folder and see that its files are those that were written.

    Raises:
        BoardError: it is no such folder, of another schema, or a file of it is missing or changed; names it.
    """
    again = "leakboard secure writes one"
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        schema = about["schema"]
        if schema != SCHEMA:
            raise BoardError(f"{folder / ABOUT} has schema {schema!r}, this program reads {SCHEMA}: {again}")
        shape, files = about["model"]["input_shape"], about["files"]
        named = [
            about["model"]["name"],
            about["defense"],
            about["policy"],
            *files,
            *(one["sha256"] for one in files.values()),
        ]
        if not all(isinstance(one, int) and one > 0 for one in shape) or not all(isinstance(one, str) for one in named):
            raise ValueError("a field has the wrong type")
    except OSError as error:
        raise BoardError(f"no sealed deployment in {folder}: {ABOUT}: {error.strerror}; {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BoardError(f"{folder / ABOUT} is damaged ({type(error).__name__}: {error}); {again}") from error
    if PUBLIC not in files or not {PUBLIC, SEALED, SLICES}.issuperset(files):
        raise BoardError(f"{folder / ABOUT} is damaged: it lists {', '.join(files) or 'no files'}; {again}")
    for name, said in files.items():
        try:
            found = digest((folder / name).read_bytes())
        except OSError as error:
            raise BoardError(f"cannot read {folder / name}: {error.strerror}; {again}") from error
        if found != said["sha256"]:
            raise BoardError(f"{folder / name} was changed: its SHA-256 is not the one in {ABOUT}; {again}")
    places = [folder / name if name in files else None for name in (SEALED, SLICES)]
    return SealedDeployment(folder, DeploymentFiles(folder / PUBLIC, *places), about)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` that takes its name when the block is through, and is gone when it fails.

    Raises:
        BoardError: ``folder`` exists and is not empty, or it cannot be written.
    """
    refuse_taken(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BoardError(f"cannot write {folder}: {error.strerror}") from error
    try:
        yield aside
        aside.chmod(0o755)
        try:
            os.rename(aside, folder)  # onto an empty folder, too
        except OSError as error:
            raise BoardError(f"cannot write {folder}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def refuse_taken(folder: Path) -> None:
    """See that nothing would be overwritten.

    Raises:
        BoardError: something is there.
    """
    try:
        is_taken = folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
    except OSError as error:
        raise BoardError(f"cannot write {folder}: {error.strerror}") from error
    if is_taken:
        raise BoardError(f"{folder} exists and is no empty folder: nothing is overwritten; name another with -o DIR")


def write_into(folder: Path, files: Mapping[str, bytes], device_key: bytes | None) -> DeploymentFiles:
    """The files for the device and the key that they are sealed to."""
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        if device_key is not None:
            (folder / KEY).write_bytes(key_to_pem(device_key))
    except OSError as error:
        raise BoardError(f"cannot write {folder}: {error.strerror}") from error
    places = [folder / name if name in files else None for name in (SEALED, SLICES)]
    return DeploymentFiles(folder / PUBLIC, *places)


def write_about(folder: Path, about: Mapping[str, Any], plan: str) -> None:
    """``deployment.json`` and ``plan.txt``."""
    try:
        (folder / ABOUT).write_text(f"{json.dumps(about, indent=1)}\n", encoding="utf-8")
        (folder / PLAN).write_text(plan, encoding="utf-8")
    except OSError as error:
        raise BoardError(f"cannot write {folder}: {error.strerror}") from error
