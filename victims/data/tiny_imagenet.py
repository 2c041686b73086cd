"""The official directory layout of Tiny ImageNet: 200 classes of 64x64 JPEG files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from victims.data import progress
from victims.data.checksums import Pin
from victims.data.containers import read_archive
from victims.data.errors import CorruptFile
from victims.data.layouts import Decoded, archive_complaint

SIDE = 64
WNIDS, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


@dataclass(frozen=True, slots=True)
class TinyImagenet:
    """The directory layout, in a zip archive or unpacked.

    A copy is accepted if its archive is in ``archives`` (checksum of the whole file) or its tree in ``trees``
    (:func:`tree_checksum`). Encoded bytes are pinned, not pixels: JPEG decoders may differ in the last bit.
    """

    containers: tuple[str, ...]
    trees: frozenset[str]
    archives: Mapping[str, Pin]

    def holds(self, path: Path) -> bool:
        """Whether ``path`` is an archive or a folder with the list of classes."""
        return path.is_file() or (path / WNIDS).is_file()

    def read(self, path: Path) -> Decoded:
        """Decode the tree in ``path``: classes as in ``wnids.txt``, images by number, train before val.

        Raises:
            CorruptFile: The tree is no known one, with its checksum.
        """
        try:
            files = _read_folder(path) if path.is_dir() else read_archive(path, _select)
        except CorruptFile as error:
            raise CorruptFile(path, error.problem + archive_complaint(path, self.archives)) from error
        pin = None if path.is_dir() else self.archives.get(path.name)
        if pin is None or pin.of_file(path) != pin.digest:
            found = tree_checksum(files)
            if found not in self.trees:
                raise CorruptFile(
                    path,
                    f"is no known Tiny ImageNet: {len(files):,} files with tree checksum {found}, expected "
                    f"{' or '.join(sorted(self.trees))}{archive_complaint(path, self.archives)}",
                    "fetch it again; keep the full set as the official zip, whose checksum is known",
                )
        return decode(files)


def tree_checksum(files: Mapping[str, bytes]) -> str:
    """SHA-256, hex, over the sorted paths of ``files`` and the SHA-256 of each content."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


def decode(files: Mapping[str, bytes]) -> Decoded:
    """Images uint8 [N, 64, 64, 3] and labels int64 [N] of a tree, given as path below its top -> content."""
    wnids = files[WNIDS].decode().split()
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    train: list[tuple[int, int, str]] = []
    for name in files:
        if name.startswith("train/"):
            train.append((label_of[name.split("/")[1]], _number(name), name))
    validation: list[tuple[int, int, str]] = []
    for line in files[ANNOTATIONS].decode().splitlines():
        image, wnid = line.split("\t")[:2]
        validation.append((_number(image), label_of[wnid], f"val/images/{image}"))
    order = [(name, label) for label, _, name in sorted(train)]
    order += [(name, label) for _, label, name in sorted(validation)]
    images = np.empty((len(order), SIDE, SIDE, 3), np.uint8)
    with progress.bar(len(order), "decoding JPEG files", unit="image") as bar:
        for index, (name, _) in enumerate(order):
            images[index] = _decode_jpeg(name, files[name])
            bar.update()
    return images, np.array([label for _, label in order], np.int64)


def _decode_jpeg(name: str, content: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))  # some of the files are grey
    except OSError as error:
        raise CorruptFile(Path(name), f"does not decode ({error})") from error
    if pixels.shape != (SIDE, SIDE, 3):
        raise CorruptFile(Path(name), f"is {pixels.shape}, expected {(SIDE, SIDE, 3)}")
    return pixels


def _number(name: str) -> int:
    return int(name.rpartition("_")[2].partition(".")[0])


def _select(member: str) -> str | None:
    """Keep images and lists, by their path below the top folder; skip test, boxes and words."""
    below = member.partition("/")[2]
    return below if below in (WNIDS, ANNOTATIONS) or _is_image(below) else None


def _is_image(below: str) -> bool:
    return below.startswith(("train/", "val/")) and below.endswith(".JPEG")


def _read_folder(folder: Path) -> dict[str, bytes]:
    files = {name: (folder / name).read_bytes() for name in (WNIDS, ANNOTATIONS) if (folder / name).is_file()}
    if len(files) != 2:
        raise CorruptFile(folder, f"lacks {WNIDS} or {ANNOTATIONS}", "complete it")
    for path in _images(folder):
        files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def _images(folder: Path) -> Iterator[Path]:
    yield from folder.glob("train/*/images/*.JPEG")
    yield from folder.glob("val/images/*.JPEG")
