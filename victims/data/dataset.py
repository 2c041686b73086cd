"""A labelled image data set in memory, and its identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from victims.data.errors import DataError

_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The pooled images of a data set: official train, then official test (or validation), in official order.

    Attributes:
        name: Name in the catalogue, ``"cifar10"``.
        images: uint8 [N, H, W, C], read-only; may be memory-mapped.
        labels: int64 [N] in ``range(n_classes)``, read-only.
        n_classes: Number of classes.
        groups: int64 [N], read-only. Images with identical bytes share one id, whatever their labels.
        fingerprint: SHA-256, hex, over shape, classes, images and labels; independent of the source.
        source: Which source answered, for the record.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    n_classes: int
    groups: NDArray[np.int64]
    fingerprint: str
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image as a model sees it."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    @classmethod
    def from_arrays(
        cls, name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], n_classes: int, source: str
    ) -> Dataset:
        """Make a data set of ``images`` uint8 [N, H, W, C] and integer ``labels`` [N]; finds the duplicates.

        Raises:
            DataError: Shapes, dtypes or label range do not fit together.
        """
        images = np.ascontiguousarray(images)
        labels = np.ascontiguousarray(labels, dtype=np.int64)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise DataError(f"{name}: images must be uint8 [N, H, W, C], not {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or len(labels) == 0:
            raise DataError(f"{name}: {len(images)} images but labels of shape {labels.shape}")
        if labels.min() < 0 or labels.max() >= n_classes:
            raise DataError(f"{name}: labels {labels.min()}..{labels.max()} outside 0..{n_classes - 1}")
        groups = duplicate_groups(images)
        fingerprint = content_fingerprint(images, labels, n_classes)
        return cls(name, _locked(images), _locked(labels), n_classes, _locked(groups), fingerprint, source)


def content_fingerprint(images: NDArray[np.uint8], labels: NDArray[np.int64], n_classes: int) -> str:
    """SHA-256, hex, over image shape, ``n_classes``, the bytes of ``images`` and those of ``labels``."""
    digest = hashlib.sha256(f"{images.shape} {n_classes}\n".encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def duplicate_groups(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group ids int64 [N], in order of first appearance; equal exactly where the bytes are equal."""
    ids: dict[bytes, int] = {}
    rows = images.reshape(len(images), -1)
    return np.fromiter(
        (ids.setdefault(hashlib.sha256(row.data).digest(), len(ids)) for row in rows), np.int64, len(rows)
    )


def count_duplicate_groups(groups: NDArray[np.int64]) -> int:
    """How many groups hold more than one image."""
    return int((np.bincount(groups) > 1).sum())


def _locked(array: _Array) -> _Array:
    view = array.view()
    view.flags.writeable = False
    return view
