"""One inference through a board's TEE, compared with PyTorch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from device.board import Board, DeploymentFiles
from suite.deploying import deploy, untrained_victim
from suite.graph.format import pack_public, pack_sealed
from suite.registry import Kind, discover
from suite.spec import parse

VICTIM, SHAPE, N_CLASSES = "alexnet", (1, 8, 8), 10
DEFENSE = "darknetz[k=2,output=probs]"
TOLERANCE = 1e-3
_QUERIES = 4


def inference_error(board: Board) -> float:
    """The largest difference of a probability, over a few images, between the board and PyTorch.

    Raises:
        BoardError: the board fails, or refuses the model.
    """
    discover()
    victim = untrained_victim(VICTIM, SHAPE, N_CLASSES)
    deployment = deploy(parse(Kind.DEFENSE, DEFENSE)[0], victim)
    images = np.random.default_rng(0).random((_QUERIES, *SHAPE), dtype=np.float32)
    model_id = bytes(range(16))
    with tempfile.TemporaryDirectory(prefix="leakboard-check-") as name:
        public, sealed = Path(name, "public.lbm"), Path(name, "sealed.lbm")
        public.write_bytes(pack_public(deployment.segments, deployment.policy, model_id))
        sealed.write_bytes(pack_sealed(deployment.segments, deployment.policy, model_id))
        with board.open(DeploymentFiles(public, sealed)) as session:
            answer = session.infer(images)
    with torch.no_grad():
        expected = torch.softmax(victim.module(torch.from_numpy(images)), dim=1).numpy()
    return float(np.abs(answer.outputs - expected).max())
