"""scikit-learn's handwritten digits, enlarged to 28x28: needs no download, serves the smoke profile."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from victims.data.dataset import Dataset


def load() -> Dataset:
    """1,797 images uint8 [N, 28, 28, 1]: 8x8 times 3 (nearest), 2 pixels of padding, 0..16 made 0..255."""
    bunch = load_digits()
    values = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    enlarged = np.kron(values, np.ones((1, 3, 3), np.uint8))
    images = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))[..., np.newaxis]
    return Dataset.from_arrays("digits", images, bunch.target.astype(np.int64), 10, "scikit-learn")
