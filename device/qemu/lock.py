"""Which packages the board is made of: every file pinned by version, size and SHA-256 in ``packages.lock``."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from device.board import BoardError
from device.cache import sha256_of

LOCK = Path(__file__).with_name("packages.lock")

HEADER = """\
# What the QEMU board is made of, from Debian's suite trixie (arm64). Each file is checked against its SHA-256 on
# every use. `leakboard board build --update` rewrites this file from what the mirror offers now.
# kind package version size_bytes sha256 path-below-the-mirror
"""


class Kind(StrEnum):
    """What a pinned file is."""

    DEB = "deb"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Pin:
    """One file of the mirror. A source package has several, of one name and version.

    The kernel goes by the name of the package that depends on the newest one, since its own contains its version.
    """

    kind: Kind
    package: str
    version: str
    size_bytes: int
    sha256: str
    path: str

    @property
    def file(self) -> str:
        """Its name in the download folder."""
        return self.path.rpartition("/")[2]

    def line(self) -> str:
        """Its line of the lock file."""
        return f"{self.kind} {self.package} {self.version} {self.size_bytes} {self.sha256} {self.path}"


_LINE = re.compile(
    r"(deb|source) ([a-z0-9][a-z0-9+.-]+) ([A-Za-z0-9.+:~-]+) ([0-9]{1,12}) ([0-9a-f]{64}) "
    r"(pool(?:/[A-Za-z0-9][A-Za-z0-9.+~_%-]*)+)"
)


def parse(text: str, where: str) -> tuple[Pin, ...]:
    """The pins of a lock file's text; ``where`` is for the messages.

    Raises:
        BoardError: a line is not one, or two lines pin one file; names the line and the way out.
    """
    pins: list[Pin] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise _bad(where, number, f"expected 'kind package version size sha256 path', found {line[:120]!r}")
        kind, package, version, size, sha256, path = found.groups()
        pin = Pin(Kind(kind), package, version, int(size), sha256, path)
        if any(other.file == pin.file for other in pins):
            raise _bad(where, number, f"{pin.file} is pinned twice")
        if any(other.package == package and other.version != version for other in pins):
            raise _bad(where, number, f"{package} is pinned in two versions")
        pins.append(pin)
    if not pins:
        raise BoardError(f"{where} pins no package (leakboard board build --update writes it anew)")
    return tuple(pins)


def read(path: Path = LOCK) -> tuple[Pin, ...]:
    """The pins of the committed lock file.

    Raises:
        BoardError: it cannot be read, or as :func:`parse`.
    """
    try:
        return parse(path.read_text(encoding="ascii", errors="backslashreplace"), str(path))
    except OSError as error:
        raise BoardError(f"cannot read {path}: {error.strerror}") from error


def write(pins: Iterable[Pin], path: Path = LOCK) -> None:
    """Replace the lock file.

    Raises:
        BoardError: it cannot be written.
    """
    text = HEADER + "".join(f"{pin.line()}\n" for pin in pins)
    parse(text, "the new lock")
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as aside:
            aside.write(text)
        os.chmod(aside.name, 0o644)
        os.replace(aside.name, path)
    except OSError as error:
        raise BoardError(f"cannot write {path}: {error.strerror}") from error


def versions(pins: Iterable[Pin]) -> dict[str, str]:
    """Package to version."""
    return {pin.package: pin.version for pin in pins}


def check(pin: Pin, file: Path, called: str, way_out: str) -> None:
    """Compare a file with its pin. ``called`` and ``way_out`` are for the message.

    Raises:
        BoardError: it is another; names the file, what was expected and what was found.
    """
    sha256, size = sha256_of(file), file.stat().st_size
    if (size, sha256) != (pin.size_bytes, pin.sha256):
        raise BoardError(
            f"{called} is not the pinned {pin.package} {pin.version}: expected {pin.size_bytes} bytes, SHA-256 "
            f"{pin.sha256}, found {size} bytes, SHA-256 {sha256} ({way_out})"
        )


def _bad(where: str, number: int, what: str) -> BoardError:
    return BoardError(f"{where}, line {number}: {what} (leakboard board build --update writes it anew)")
