"""What this machine must have installed to build and boot the board."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from device.board import BoardError

PROGRAMS = {
    "qemu-system-aarch64": "qemu-system-arm",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-readelf": "binutils-aarch64-linux-gnu",
    "make": "make",
    "gcc": "gcc",
    "dpkg-deb": "dpkg",
    "dpkg-source": "dpkg-dev",
    "xz": "xz-utils",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
}
"""Program to the Debian package that has it."""

FILES = {
    Path("/usr/aarch64-linux-gnu/include/stdio.h"): "libc6-dev-arm64-cross",
    Path("/usr/include/openssl/evp.h"): "libssl-dev",
}
"""A file of each package that has no program: the cross compiler's C library, and what TF-A's fiptool includes."""

PYTHON = Path("/usr/bin/python3")
"""Debian's own: what the scripts of the TA dev kit run under, with ``python3-cryptography``."""

APT_HELPER = Path("/usr/lib/apt/apt-helper")

_SEARCH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Debian's users do not have these on their PATH."""


def find_program(name: str) -> Path:
    """Where a program is.

    Raises:
        BoardError: nowhere; says what to install.
    """
    found = _which(name)
    if found is None:
        raise BoardError(f"{name} is missing: {_apt_line([PROGRAMS.get(name, name)])}")
    return found


def check_host() -> None:
    """See that everything is here that a build and a boot take.

    Raises:
        BoardError: names all that is missing, and the one line that installs it.
    """
    if _which("apt-get") is None or not APT_HELPER.exists():
        raise BoardError("the QEMU board is built from Debian packages with apt, and this machine has none")
    missing = {name: package for name, package in PROGRAMS.items() if _which(name) is None}
    missing |= {str(file): package for file, package in FILES.items() if not file.exists()}
    if not _has_cryptography():
        missing[f"{PYTHON}'s cryptography"] = "python3-cryptography"
    if missing:
        raise BoardError(f"to build the QEMU board, {', '.join(missing)} must be here: {_apt_line(missing.values())}")


def _apt_line(packages: Iterable[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(dict.fromkeys(packages))}"


def _which(name: str) -> Path | None:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SEARCH]))
    return None if found is None else Path(found)


def _has_cryptography() -> bool:
    try:
        done = subprocess.run([PYTHON, "-c", "import cryptography"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
