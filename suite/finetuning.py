"""Fine-tuning a deployment on a board, as its user would, and what the normal world sees of it.

DarkneTZ (Mo et al. 2020, sections 3 and 4) trains all layers on the device, the hidden ones in the TEE: activations go
in at the partition point, and the gradient with respect to them comes back. The normal world sees its own layers'
gradients and what crosses; loss, answer and the hidden layers' gradients stay inside.

Interpretation: images and labels are the user's and come from the normal world, as DarkneTZ's do; a batch's gradient
is the mean over its images; batch norms are frozen, that is, they stay as they were folded into the layers before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device.board import Board, DeploymentFiles
from device.training import TrainOptions, Tuned
from suite.graph.format import pack_public, pack_sealed
from suite.graph.ir import Graph, GraphError
from suite.graph.parse import parse
from suite.graph.partition import World
from suite.graph.training import allow_training, place_dropouts
from suite.model import Deployment, LabelledImages
from suite.seen_training import SeenStep, by_parameter


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How to train. ``seed``: of the batches and of the dropouts."""

    epochs: int = 1
    batch: int = 50
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What fine-tuning leaves: the public graphs as tuned, and both files, the hidden one sealed to its owner.

    ``steps``: what the normal world saw of each step, when asked for. ``step_ns``, ``invoke_ns``: per step, int64, on
    the board's clock. ``ree_bytes``, ``tee_bytes``: memory that training took in each world, beside the deployment's.
    """

    public: tuple[Graph, ...]
    files: Tuned
    steps: tuple[SeenStep, ...]
    step_ns: NDArray[np.int64]
    invoke_ns: NDArray[np.int64]
    ree_bytes: int
    tee_bytes: int


def pack_hidden(deployment: Deployment, model_id: bytes, owner_key: bytes) -> bytes:
    """The hidden part's model file in the clear, which a TA may train for the owner of ``owner_key`` (X || Y).

    Raises:
        GraphError: the deployment is not one that the device may train.
    """
    model = pack_sealed(deployment.segments, deployment.policy, model_id)
    return allow_training(model, deployment.segments, owner_key, _dropouts(deployment))


def write_trainable(folder: Path, deployment: Deployment, model_id: bytes, owner_key: bytes) -> DeploymentFiles:
    """The files of a deployment that the device may train; ``owner_key`` as of :func:`pack_hidden`.

    Raises:
        GraphError: it is not one that the device may train.
    """
    _dropouts(deployment)
    public, sealed = folder / "public.lbm", folder / "sealed.lbm"
    public.write_bytes(pack_public(deployment.segments, deployment.policy, model_id))
    if not deployment.hidden:
        return DeploymentFiles(public, None)
    sealed.write_bytes(pack_hidden(deployment, model_id, owner_key))
    return DeploymentFiles(public, sealed)


def _dropouts(deployment: Deployment) -> Mapping[str, float]:
    if deployment.training is None:
        raise GraphError("the deployment answers queries and no more: give it OnDeviceTraining() to have it trained")
    return deployment.training.dropouts


def finetune(
    board: Board,
    deployment: Deployment,
    files: DeploymentFiles,
    data: LabelledImages,
    how: FineTuning,
    *,
    show: bool = False,
) -> FineTuned:
    """Fine-tune a deployment on a board.

    Args:
        board: where.
        deployment: what.
        files: of the deployment, as :func:`write_trainable` makes them.
        data: to train on; each epoch goes over it in an order of its own, which ``how.seed`` decides.
        how: the training's parameters.
        show: keep what the normal world sees of each step.

    Raises:
        GraphError: the deployment is not one that the device may train.
        BoardError: the board failed, has too little memory, or the owner does not allow it; says which.
    """
    dropouts = place_dropouts(deployment.segments, World.REE, _dropouts(deployment))
    options = TrainOptions(how.learning_rate, how.momentum, how.weight_decay, how.seed, dropouts)
    public = files.public.read_bytes()
    seen, total, inside = [], [], []
    with board.open(files) as session:
        training = session.train(options)
        for chosen in batches(len(data), how):
            step = training.step(
                data.images[chosen], data.labels[chosen], crossings=show, boundary=show, gradients=show
            )
            total.append(step.total_ns)
            inside.append(step.invoke_ns)
            if show:
                seen.append(SeenStep(step.crossed, step.boundary, by_parameter(public, step.gradients)))
        tuned = training.export()
    return FineTuned(
        public=tuple(segment.graph for segment in parse(tuned.public).as_segments()),
        files=tuned,
        steps=tuple(seen),
        step_ns=np.array(total, np.int64),
        invoke_ns=np.array(inside, np.int64),
        ree_bytes=training.ree_bytes,
        tee_bytes=training.tee_bytes,
    )


def batches(n: int, how: FineTuning) -> Iterator[NDArray[np.int64]]:
    """Indices of the images of each batch, int64, all epochs after one another: an order that ``how.seed`` decides."""
    rng = np.random.default_rng(how.seed)
    for _ in range(how.epochs):
        order = rng.permutation(n)
        for first in range(0, n, how.batch):
            yield order[first : first + how.batch]
