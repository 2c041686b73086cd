"""Training a deployment on a board: the public layers in its normal world, the hidden ones in the TA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device import wire
from device.board import BoardError
from device.connection import Connection
from device.wire import Clock, FrameType

SEED_BITS = 32


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Stochastic gradient descent as PyTorch's ``SGD`` has it, without dampening, not Nesterov's.

    ``dropouts``: (index of a public op in the public file, probability) each; the hidden ones are in the sealed model.
    ``seed``: of all dropouts.
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    seed: int = 0
    dropouts: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TrainStep:
    """What one batch shows to the normal world, and what it took.

    ``total_ns``, ``invoke_ns``: as of ``Timings``, for the whole batch. ``crossed``: the tensors that cross, float32
    [N, *shape] by crossing. ``boundary``: gradients of each image's loss with respect to them, in the same shapes, on
    their way in the opposite direction. ``gradients``: of the mean loss with respect to the public weights, float32,
    flat, as the public file's weights lie. The last three are empty unless asked for.
    """

    total_ns: int
    invoke_ns: int
    crossed: Mapping[str, NDArray[np.float32]]
    boundary: Mapping[str, NDArray[np.float32]]
    gradients: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A tuned deployment: the public file, and the hidden part sealed to its owner (None when nothing is hidden).

    ``device_key``: X || Y of the device that sealed it, as the board tells it; empty when nothing is hidden. An owner
    who does not trust the board's normal world compares it with the key that it sealed the model to.
    """

    public: bytes
    sealed: bytes | None
    device_key: bytes


class Training:
    """A training under way in a session; ends with :meth:`export`, the next training, or the session.

    ``ree_bytes``, ``tee_bytes``: memory that it takes in each world, beside the deployment's.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        shape: tuple[int, ...],
        crossings: Sequence[tuple[str, tuple[int, ...], float]],
        device_key: bytes,
        options: TrainOptions,
    ) -> None:
        """Begin.

        Raises:
            TeeOutOfMemory: the secure world cannot hold what training takes.
            BoardError: the deployment cannot be trained, or its owner does not allow it.
        """
        if not 0 <= options.seed < 1 << SEED_BITS:
            raise BoardError(f"dropout seed {options.seed}: between 0 and {(1 << SEED_BITS) - 1}")
        self._connection, self._clock, self._shape = connection, clock, shape
        self._crossings, self._device_key = crossings, device_key
        head = wire.TRAIN_BEGIN.pack(
            options.learning_rate, options.momentum, options.weight_decay, options.seed, len(options.dropouts)
        )
        body = b"".join(wire.DROPOUT.pack(op, drop_word(p)) for op, p in sorted(options.dropouts))
        answer = connection.ask(FrameType.TRAIN_BEGIN, head, body)
        self._boundary, self._gradients, self.ree_bytes, self.tee_bytes = wire.TRAIN_BEGUN.unpack(answer)

    def step(
        self,
        images: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        update: bool = True,
        crossings: bool = False,
        boundary: bool = False,
        gradients: bool = False,
    ) -> TrainStep:
        """One batch of images float32 [N, *input shape] and labels int64 [N]: one step of gradient descent.

        Args:
            images: the batch.
            labels: their classes.
            update: whether to change the weights; without, the gradients are forgotten.
            crossings: whether to return the tensors that cross.
            boundary: whether to return the gradients that cross.
            gradients: whether to return those of the public weights.

        Raises:
            BoardError: shapes or labels are not the model's, the batch is too large for a frame, or the board failed.
        """
        n = len(images)
        if images.shape[1:] != self._shape or labels.shape != (n,) or n < 1:
            raise BoardError(f"a batch is {images.shape} and {labels.shape} labels, the deployment takes {self._shape}")
        if labels.min() < 0:
            raise BoardError(f"label {labels.min()}: classes count from 0")
        head = wire.TRAIN_BATCH.pack(n, update, crossings, boundary, gradients, self._clock)
        data, classes = np.ascontiguousarray(images, "<f4"), labels.astype("<u4")
        answer = self._connection.ask(
            FrameType.TRAIN_BATCH, head, data.data.cast("B"), classes.data.cast("B"), patience=1 + n / 10
        )
        total, invoke = wire.TRAINED.unpack_from(answer)
        floats = np.frombuffer(answer, "<f4", offset=wire.TRAINED.size).astype(np.float32, copy=False)
        size = n * self._boundary // 4
        crossed, floats = np.split(floats, [size if crossings else 0])
        back, floats = np.split(floats, [size if boundary else 0])
        gradients_by_crossing = self._split(back.reshape(n, -1))
        for image in [name for name in gradients_by_crossing if name.startswith("step0.in")]:
            del gradients_by_crossing[image]  # the image's, which no world lets out
        return TrainStep(
            total, invoke, self._split(crossed.reshape(n, -1)), gradients_by_crossing, floats / np.float32(n)
        )

    def export(self) -> Tuned:
        """The tuned deployment. Ends the training.

        Raises:
            BoardError: the TA refuses, or the files are larger than a frame.
        """
        answer = self._connection.ask(FrameType.TRAIN_EXPORT)
        public, sealed = wire.EXPORTED.unpack_from(answer)
        files = answer[wire.EXPORTED.size :]
        if len(files) != public + sealed:
            raise BoardError(f"the agent's tuned deployment has {len(files)} bytes, expected {public + sealed}")
        return Tuned(files[:public], files[public:] if sealed else None, self._device_key)

    def _split(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found, at = {}, 0
        for name, shape, _ in self._crossings if rows.size else ():
            size = int(np.prod(shape))
            found[name] = rows[:, at : at + size].reshape(-1, *shape)
            at += size
        return found


def drop_word(probability: float) -> int:
    """A dropout's probability as ``struct lb_dropout`` has it.

    Raises:
        BoardError: it is not in [0, 1).
    """
    if not 0 <= probability < 1:
        raise BoardError(f"dropout probability {probability}: at least 0 and below 1")
    return min(int(round(probability * 2**32)), 2**32 - 1)
