"""Training steps on a board as the normal world, and so an attacker in it, sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device.training import Training
from suite.graph import wire
from suite.graph.parse import parse

ParameterName = tuple[int, int, str]
"""Segment of the public part, node's position in it, parameter: ``(0, 2, "weight")``."""


@dataclass(frozen=True, slots=True)
class SeenStep:
    """What the normal world sees of one training step that a board ran.

    ``crossed``: the tensors that crossed, float32 [N, *shape] by crossing, named as in ``Observation.boundary``.
    ``boundary``: gradients of each image's loss with respect to them, in the same shapes, by the same names (but for
    ``step0.in0``, the image's, which is computed nowhere). ``public``: gradients of the mean loss over the batch with
    respect to the parameters of the public part, float32, in their shapes. No loss, no answer and no gradient of a
    hidden parameter is among them: those stay in the TEE.

    The gradient of the mean is all that lies in the normal world: it adds up a batch's gradients as they come. Whoever
    wants those of one image makes it a batch.
    """

    crossed: Mapping[str, NDArray[np.float32]]
    boundary: Mapping[str, NDArray[np.float32]]
    public: Mapping[ParameterName, NDArray[np.float32]]


class SeenTraining:
    """A training under way on a board, run by whoever owns its normal world.

    That world feeds the images and labels, runs the public layers, and sees what each step hands it back. Steps that
    update change the hidden layers, too, in this session alone.
    """

    def __init__(self, training: Training, public: bytes) -> None:
        """``public``: the deployment's public file, which says where gradients belong."""
        self._training = training
        self._public = public

    def step(
        self, images: NDArray[np.float32], labels: NDArray[np.int64], *, update: bool = False, public: bool = True
    ) -> SeenStep:
        """Run one step on images float32 [N, *input shape] and labels int64 [N].

        Args:
            images: the batch.
            labels: the classes that the loss is taken of; need not be the true ones.
            update: whether the weights change, in both worlds; without, the gradients are forgotten.
            public: whether to read out the gradients of the public part; large models have many.

        Raises:
            BoardError: shapes or labels are not the model's, the batch is too large for a frame, or the board failed.
        """
        step = self._training.step(images, labels, update=update, crossings=True, boundary=True, gradients=public)
        return SeenStep(step.crossed, step.boundary, by_parameter(self._public, step.gradients))


def by_parameter(public: bytes, gradients: NDArray[np.float32]) -> dict[ParameterName, NDArray[np.float32]]:
    """Gradients that lie as the public file's weights do, by parameter, in the parameters' shapes."""
    if not gradients.size:
        return {}
    header = np.frombuffer(public, wire.HEADER, 1)[0]
    start, size = int(header["weights_off"]), int(header["weights_bytes"])
    # A file with the gradients in the place of the weights: where they lie and in which layout is the format's affair.
    file = parse(public[:start] + gradients.astype("<f4").tobytes() + public[start + size :])
    return {
        (index, at, key): weight
        for index, segment in enumerate(file.as_segments())
        for at, node in enumerate(segment.graph.nodes)
        for key, weight in node.weights.items()
    }
