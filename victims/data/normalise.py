"""From stored bytes to what a network takes: per-channel standardised float32, channels first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from victims.data.errors import DataError


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Mean and standard deviation of each channel, of pixel values in 0..1.

    Fit it on the victim's members only: statistics of any other image would leak into the victim.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> Normaliser:
        """Statistics of ``images`` uint8 [N, H, W, C]; exact integer sums, so they depend on no order.

        A channel with one value everywhere gets a standard deviation of 1.
        """
        _check(images)
        if images.size == 0:
            raise DataError("a normaliser needs at least one image")
        values = np.arange(256, dtype=np.int64)
        mean, std = [], []
        for channel in range(images.shape[3]):
            counts = np.bincount(images[..., channel].ravel(), minlength=256)
            n, total, squares = int(counts.sum()), int(counts @ values), int(counts @ values**2)
            variance = (n * squares - total * total) / (n * n)
            mean.append(total / n / 255)
            std.append(variance**0.5 / 255 if variance > 0 else 1.0)
        return cls(tuple(mean), tuple(std))

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(pixel / 255 - mean) / std`` of uint8 [N, H, W, C] as float32 [N, C, H, W], contiguous."""
        _check(images)
        if images.shape[3] != len(self.mean):
            raise DataError(f"a normaliser of {len(self.mean)} channels cannot take images {images.shape}")
        count, height, width, channels = images.shape
        out = np.empty((count, channels, height, width), np.float32)
        for channel in range(channels):
            table = ((np.arange(256) / 255 - self.mean[channel]) / self.std[channel]).astype(np.float32)
            out[:, channel] = table[images[..., channel]]
        return out


def _check(images: NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"images must be uint8 [N, H, W, C], not {images.dtype} {images.shape}")
