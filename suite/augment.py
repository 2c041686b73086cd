"""Views of an image: what a model was trained on looks alike to it when it is mirrored or moved a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))

VIEWS: tuple[tuple[bool, int, int], ...] = tuple((flip, *move) for move in _MOVES for flip in (False, True))
"""(mirrored, pixels down, pixels right), the image itself first: 18 queries, as many as Carlini et al. 2022, section
VI.D, ask at most. Which ones is an interpretation: the paper mirrors and moves by up to four pixels."""

KEPT = 2
"""So many views are asked of every reference model once it is trained; attacks that want more wait for them."""


def view_of(images: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """View ``index`` of images [N, C, H, W]; what moves in at the border is the pixel that stood there.

    Raises:
        ValueError: there is no such view.
    """
    if not 0 <= index < len(VIEWS):
        raise ValueError(f"there are {len(VIEWS)} views of an image, none has the index {index}")
    flip, down, right = VIEWS[index]
    moved = images[..., ::-1] if flip else images
    if down or right:
        height, width = images.shape[-2:]
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        moved = moved[..., rows[:, None], columns[None, :]]
    return np.ascontiguousarray(moved)
