"""Tiny synthetic data sets in official layouts, for the tests of victims.data."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping

import numpy as np
from PIL import Image

from victims.data import cifar, idx
from victims.data.catalogue import Entry
from victims.data.checksums import sha256
from victims.data.dataset import Dataset
from victims.data.layouts import PinnedFiles
from victims.data.packages import Package

RNG = np.random.default_rng(7)


def pins(files: Mapping[str, bytes]):
    return {name: sha256(hashlib.sha256(content).hexdigest()) for name, content in files.items()}


def idx_file(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(train: int = 6, test: int = 4, seed: int = 7) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    arrays = (
        rng.integers(0, 256, (train, 28, 28), np.uint8),
        rng.integers(0, 10, train, np.uint8),
        rng.integers(0, 256, (test, 28, 28), np.uint8),
        rng.integers(0, 10, test, np.uint8),
    )
    return {name: idx_file(array) for name, array in zip(idx.MEMBERS, arrays, strict=True)}


def cifar100_files() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    images = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), np.uint8)
    labels = np.array([99, 0, 42, 7, 7])
    records = [bytes([1, y]) + x.transpose(2, 0, 1).tobytes() for x, y in zip(images, labels, strict=True)]
    return {"train.bin": b"".join(records[:3]), "test.bin": b"".join(records[3:])}, images, labels


def tar(files: Mapping[str, bytes], compression: str, top: str = "cifar-100-binary/") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def jpeg(level: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (64, 64), level if mode == "L" else (level, level, level)).save(out, "JPEG")
    return out.getvalue()


def entry(name: str = "tiny100", mirrors=(), package: Package | None = None) -> Entry:
    """A catalogue entry of the synthetic CIFAR-100, in folder, tar.gz and tar.xz."""
    files, _, _ = cifar100_files()
    containers = ("cifar-100-binary", "cifar-100-binary.tar.gz", "cifar-100-binary.tar.xz")
    layout = PinnedFiles(containers, pins(files), cifar.decode_cifar100)
    images, labels = cifar.decode_cifar100(files)
    content = Dataset.from_arrays(name, images, labels, 100, "").fingerprint
    return Entry(name, 100, (layout,), tuple(mirrors), package, content)


def pool(seed: int, size: int, distinct: int) -> Dataset:
    """A pool of ``size`` 2x2 images of at most ``distinct`` kinds, labels at random."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(1 << 16)[:distinct]
    chosen = kinds[rng.integers(0, distinct, size)]
    images = np.stack([chosen >> 8, chosen & 255, chosen * 0, chosen * 0], 1).astype(np.uint8)
    labels = rng.integers(0, 10, size)
    return Dataset.from_arrays("pool", images.reshape(size, 2, 2, 1), labels, 10, "made")


def json_labels(labels) -> bytes:
    return json.dumps([int(label) for label in labels]).encode()
