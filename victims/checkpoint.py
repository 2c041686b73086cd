"""A training's state on disk, so that an interrupted one continues where it was."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_MAGIC = b"leakboard-checkpoint-1\n"
_DIGEST_BYTES = 32


def write_checkpoint(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Replace ``path`` at once by ``state`` of the training ``key`` stands for; a crash leaves the old file.

    ``state`` holds tensors, numbers, strings, lists and dicts.
    """
    buffer = io.BytesIO()
    torch.save({"key": key, "state": dict(state)}, buffer)
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).digest())
            file.write(payload)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """The state written under ``key``, or None when there is none that can be used.

    A file that is damaged, or that another training wrote, is named in a warning; the training then starts
    anew and replaces it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _ignore(path, f"cannot be read ({error.strerror})")
        return None
    header = len(_MAGIC) + _DIGEST_BYTES
    payload = content[header:]
    digest = content[len(_MAGIC) : header]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != digest:
        _ignore(path, "is damaged or not a checkpoint")
        return None
    try:
        stored = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        _ignore(path, f"does not load ({error})")
        return None
    if stored["key"] != key:
        _ignore(path, "belongs to another training")
        return None
    state: dict[str, Any] = stored["state"]
    return state


def _ignore(path: Path, reason: str) -> None:
    warnings.warn(f"checkpoint {path} {reason}: training starts anew", stacklevel=3)
