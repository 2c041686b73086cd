"""Whether two machines run the same code: results of one must be those of the other."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.provenance import ROOTS, hash_file, hash_json, versions

_FOLDERS = (*ROOTS, "ta")
_COUNTED = (".py", ".c", ".h", ".csv", ".json")
CODE = "leakboard's code"


@functools.cache
def identity() -> Mapping[str, str]:
    """What must be equal on every machine of a run: the hash of the suite's sources, C included, and versions."""
    top = Path(__file__).resolve().parents[1]
    files = sorted(file for folder in _FOLDERS for file in (top / folder).rglob("*") if file.suffix in _COUNTED)
    return {CODE: hash_json({file.relative_to(top).as_posix(): hash_file(file) for file in files}), **versions()}


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """One text for each thing that is not the same, with both sides; hashes are shortened."""
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return [
        f"{name} is {_short(there.get(name))}, where the run was started {_short(here.get(name))}" for name in names
    ]


def different_parts(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The names of the parts of two keys that are not the same, with both values where they are short."""
    found = []
    for name in {**here, **there}:
        mine, other = here.get(name), there.get(name)
        if mine == other:
            continue
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found.append(f"{name} ({different_parts(mine, other)})")
        elif len(f"{mine}{other}") <= 40:
            found.append(f"{name} {other}, where the run was started {mine}")
        else:
            found.append(name)
    return ", ".join(found)


def _short(value: str | None) -> str:
    return "missing" if value is None else value[:12]
