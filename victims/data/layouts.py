"""Official layouts: where a data set's files lie below a folder, what they must hash to, how they decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from victims.data.checksums import Pin, verify
from victims.data.containers import gunzip, read_archive
from victims.data.errors import CorruptFile, DataError

Decoded = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images uint8 [N, H, W, C] and labels int64 [N], pooled in official order."""


class Layout(Protocol):
    """One way in which a data set's files are packed."""

    @property
    def containers(self) -> tuple[str, ...]:
        """Archives or folders below a data folder in which the files may lie; ``"."`` is that folder."""
        ...

    def holds(self, path: Path) -> bool:
        """Whether the archive or folder at ``path`` (it may not exist) seems to hold this data set; cheap."""
        ...

    def read(self, path: Path) -> Decoded:
        """Decode the container at ``path``, every byte of it verified first. Raises :class:`CorruptFile`."""
        ...


def find(layouts: tuple[Layout, ...], root: Path) -> list[tuple[Layout, Path]]:
    """The containers below ``root`` that hold the data set, best first."""
    candidates = [(layout, root / name) for layout in layouts for name in layout.containers]
    return [(layout, path) for layout, path in candidates if layout.holds(path)]


def archive_complaint(path: Path, pins: Mapping[str, Pin]) -> str:
    """What to add to a complaint about an archive whose good checksum is known by its file name."""
    pin = pins.get(path.name)
    return "" if pin is None else f"; the archive has {pin.algorithm} {pin.of_file(path)}, expected {pin.digest}"


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """A fixed set of files, each with its checksum; plain, gzipped, or inside an archive.

    ``files`` maps a file's name (no folders) to the pin of its content without gzip. ``archives`` are the
    known checksums of whole archives, used to say what is wrong; the pins of ``files`` decide. ``others``
    maps checksums of files of the same names to the data set they belong to (MNIST and Fashion-MNIST).
    """

    containers: tuple[str, ...]
    files: Mapping[str, Pin]
    decode: Callable[[Mapping[str, bytes]], Decoded]
    archives: Mapping[str, Pin] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    def holds(self, path: Path) -> bool:
        """Whether ``path`` is an archive, or a folder with any of the files."""
        return path.is_file() or any(self._member(path, name) is not None for name in self.files)

    def read(self, path: Path) -> Decoded:
        """Decode the files in ``path``. Raises :class:`CorruptFile`: file, expected and found checksum."""
        content = self._read_folder(path) if path.is_dir() else self._read_archive(path)
        try:
            return self.decode(content)
        except (DataError, ValueError, KeyError) as error:
            raise CorruptFile(path, f"does not decode ({error})") from error

    def _read_folder(self, folder: Path) -> dict[str, bytes]:
        content: dict[str, bytes] = {}
        for name, pin in self.files.items():
            member = self._member(folder, name)
            if member is None:
                raise CorruptFile(folder, f"lacks {name}", "complete it")
            raw = member.read_bytes()
            content[name] = self._verified(member, name, gunzip(member, raw) if member.suffix == ".gz" else raw, pin)
        return content

    def _read_archive(self, path: Path) -> dict[str, bytes]:
        try:
            raw = read_archive(path, self._select)
            content: dict[str, bytes] = {}
            for name, pin in self.files.items():
                if name not in raw:
                    raise CorruptFile(path, f"lacks {name}")
                content[name] = self._verified(path, name, raw[name], pin)
        except CorruptFile as error:
            raise CorruptFile(path, error.problem + archive_complaint(path, self.archives)) from error
        return content

    def _select(self, member: str) -> str | None:
        name = PurePosixPath(member).name
        return name if name in self.files else None

    def _member(self, folder: Path, name: str) -> Path | None:
        return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)

    def _verified(self, place: Path, name: str, content: bytes, pin: Pin) -> bytes:
        owner = self.others.get(pin.of(content))
        if owner is not None:
            raise CorruptFile(place, f"is {owner}'s {name}", f"keep {owner} in a folder of its own name")
        return verify(place, name, content, pin)
