"""The official binary layout of CIFAR-10 and CIFAR-100: a record an image, labels, then planes R, G, B."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from victims.data.errors import DataError

PIXELS = 32 * 32
MEMBERS_10 = (*(f"data_batch_{batch}.bin" for batch in range(1, 6)), "test_batch.bin")
MEMBERS_100 = ("train.bin", "test.bin")


def decode_records(content: bytes, label_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, 32, 32, 3] and labels int64 [N] of one file.

    ``label_bytes`` is 1 for CIFAR-10 and 2 for CIFAR-100 (coarse, then fine); the last one is the label.

    Raises:
        DataError: The file is not a whole number of records.
    """
    record = label_bytes + 3 * PIXELS
    if not content or len(content) % record:
        raise DataError(f"{len(content):,} bytes are no whole number of {record}-byte records")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    images = rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, label_bytes - 1].astype(np.int64)


def decode_cifar10(files: Mapping[str, bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pooled arrays of CIFAR-10: batches 1 to 5, then test."""
    return _pool(files, MEMBERS_10, 1)


def decode_cifar100(files: Mapping[str, bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pooled arrays of CIFAR-100 with fine labels: train, then test."""
    return _pool(files, MEMBERS_100, 2)


def _pool(
    files: Mapping[str, bytes], members: tuple[str, ...], label_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = zip(*(decode_records(files[name], label_bytes) for name in members), strict=True)
    return np.concatenate(images), np.concatenate(labels)
