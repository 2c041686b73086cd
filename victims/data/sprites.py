"""CIFAR-10 as PNG sprites: 10,000 rows of 1,024 RGB pixels, one row an image, with the labels in JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from victims.data import progress
from victims.data.errors import DataError

TRAIN_SPRITES = tuple(f"data_batch_{batch}.png" for batch in range(1, 6))
TEST_SPRITES = ("test_batch.png",)
TRAIN_LABELS, TEST_LABELS = "train_lables.json", "test_lables.json"  # spelled so in the package
MEMBERS = (*TRAIN_SPRITES, *TEST_SPRITES, TRAIN_LABELS, TEST_LABELS)


def decode_sprite(content: bytes, side: int = 32) -> NDArray[np.uint8]:
    """Images uint8 [rows, side, side, 3] of one PNG of ``side * side`` columns."""
    with Image.open(io.BytesIO(content)) as sprite:
        if sprite.mode != "RGB" or sprite.width != side * side:
            raise DataError(f"a sprite of {sprite.mode} {sprite.size}, expected RGB and {side * side} columns")
        return np.asarray(sprite).reshape(sprite.height, side, side, 3)


def decode(files: Mapping[str, bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, 32, 32, 3] and labels int64 [N], the same pooled arrays as the binary layout gives."""
    sprites = []
    with progress.bar(len(TRAIN_SPRITES) + 1, "decoding PNG sprites", unit="file") as bar:
        for name in (*TRAIN_SPRITES, *TEST_SPRITES):
            sprites.append(decode_sprite(files[name]))
            bar.update()
    labels = [*json.loads(files[TRAIN_LABELS]), *json.loads(files[TEST_LABELS])]
    return np.concatenate(sprites), np.array(labels, np.int64)
