"""The local folders in which official files may lie."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "LEAKBOARD_DATA"
BESIDE_PROJECT = Path(__file__).resolve().parents[3] / "shared" / "data"
"""A folder beside the project's root, shared by several checkouts."""


def folders() -> list[Path]:
    """The local folders, best first; the one that the environment names may not exist."""
    named = os.environ.get(ENVIRONMENT)
    found = [Path(named).expanduser()] if named else []
    return [*found, BESIDE_PROJECT] if BESIDE_PROJECT.is_dir() else found


def reason_for_nothing(containers: tuple[str, ...]) -> str:
    """One line: where it was looked for what."""
    named = os.environ.get(ENVIRONMENT)
    if named and not Path(named).expanduser().is_dir():
        return f"{ENVIRONMENT}={named} is no folder"
    wanted = ", ".join("the files themselves" if name == "." else name for name in containers)
    if not folders():
        return f"{ENVIRONMENT} is not set (a folder that holds one of: {wanted})"
    return f"no {wanted} in {' or '.join(map(str, folders()))}"
