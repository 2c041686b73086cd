"""The cipher of sealed slices for TAs: OpenSSL's NEON code, out of Debian's ``libssl-dev``, as a small static library.

A TA cannot link to all of libcrypto, which wants a C library and an operating system. These objects want nothing but
``memcpy``, ``memset`` and what ``ta/streaming/armv8`` gives them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from device.board import BoardError
from device.cache import cache_root, made_once
from device.qemu import lock
from device.qemu.image import downloaded
from device.qemu.mirror import CIPHER
from device.qemu.steps import output, run_logged

OBJECTS = tuple(f"libcrypto-lib-{name}.o" for name in ("chacha-armv8", "poly1305-armv8", "poly1305"))
PROVIDED = {"memcpy", "memset", "OPENSSL_armcap_P", "OPENSSL_cleanse", "ChaCha20_ctr32_sve"}
ARCHIVE = "liblbcipher.a"


def build_library(prefix: str) -> Path:
    """The folder with ``liblbcipher.a``; from the cache where it was made before.

    Args:
        prefix: what the cross compiler's programs begin with.

    Raises:
        BoardError: the package cannot be had, or its library is made of other objects than these.
    """
    pins = [pin for pin in lock.read() if pin.package == CIPHER]
    if len(pins) != 1:
        raise BoardError(f"{lock.LOCK} does not pin {CIPHER} (leakboard board build --update writes it anew)")
    (pin,) = pins
    digest = hashlib.sha256(f"{pin.line()}\0".encode() + Path(__file__).read_bytes()).hexdigest()

    def make(folder: Path) -> None:
        package, log = folder / "package", folder / "log"
        run_logged(["dpkg-deb", "-x", downloaded(pins) / pin.file, package], f"unpacking {CIPHER}", log)
        whole = package / "usr/lib/aarch64-linux-gnu/libcrypto.a"
        run_logged([f"{prefix}ar", "x", whole, *OBJECTS], "taking the cipher out of libcrypto.a", log, cwd=folder)
        run_logged([f"{prefix}ar", "rcD", ARCHIVE, *OBJECTS], "packing the cipher", log, cwd=folder)
        _check(folder / ARCHIVE, prefix)
        run_logged(["rm", "-r", package, *OBJECTS], "tidying up", log, cwd=folder)

    return made_once(cache_root() / "build", f"cipher-{digest[:32]}", make)


def _check(archive: Path, prefix: str) -> None:
    """Nothing may be wanted that a TA does not have."""
    wanted, defined = (
        {
            line.split()[-1]
            for line in output([f"{prefix}nm", kind, archive], "reading symbols").splitlines()
            if " " in line
        }
        for kind in ("-u", "--defined-only")
    )
    if missing := wanted - defined - PROVIDED:
        raise BoardError(f"{CIPHER}'s cipher wants {', '.join(sorted(missing))}, which a TA does not have")
