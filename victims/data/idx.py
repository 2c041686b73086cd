"""The IDX layout of MNIST and Fashion-MNIST: a big-endian header, then unsigned bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from victims.data.errors import DataError

MEMBERS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
"""The four official files, without ``.gz``."""


def decode_array(content: bytes) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes: ``0 0 8 ndim``, then ``ndim`` big-endian uint32 sizes, then the data.

    Raises:
        DataError: The header is not one, or the data is shorter or longer than the header says.
    """
    data_at = 4 + 4 * content[3] if len(content) >= 4 else 0
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < data_at:
        raise DataError(f"not an IDX file of unsigned bytes: it begins with {content[:4].hex() or 'nothing'}")
    shape = tuple(int(size) for size in np.frombuffer(content[4:data_at], ">u4"))
    data = np.frombuffer(content[data_at:], np.uint8)
    if data.size != math.prod(shape):
        raise DataError(f"the IDX header promises {shape}, the file holds {data.size:,} bytes of data")
    return data.reshape(shape)


def decode(files: Mapping[str, bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, H, W, 1] and labels int64 [N], train then test, of the four ``MEMBERS``."""
    train_images, train_labels, test_images, test_labels = (decode_array(files[name]) for name in MEMBERS)
    images = np.concatenate([train_images, test_images])[..., np.newaxis]
    return images, np.concatenate([train_labels, test_labels]).astype(np.int64)
