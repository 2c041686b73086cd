"""The attacker's own queries that many attacks have in common: asked once a deployment and board, and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.board import Board
from suite.deploying import Laid
from suite.policy import Outputs
from suite.progress import tell
from suite.provenance import code_hash, hash_arrays
from suite.store import Key, Store


def answers(store: Store, laid: Laid, board: Board, images: NDArray[np.float32], what: str) -> Outputs:
    """What a deployment lets out for images [N, *input_shape], asked on the board if it was not yet.

    ``what`` names the images in progress lines.

    Raises:
        BoardError, StoreError: see there.
    """
    parts = {
        "deployment": laid.key.digest,
        "board": board.fingerprint(),
        "images": hash_arrays([images]),
        "code": code_hash("suite.querying", "device.board", roots=("device",)),
    }

    def make(folder: Path, scratch: Path) -> None:
        tell(f"asking {board.name} about {len(images)} {what}")
        with board.open(laid.files) as session:
            np.save(folder / "outputs.npy", session.infer(images).outputs)

    outputs: Outputs = np.load(store.get(Key("queries", parts), make) / "outputs.npy")
    return outputs
