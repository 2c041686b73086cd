"""The session that an agent's board gives: a deployment loaded, and what is asked of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device import wire
from device.board import Answer, BoardError, DeploymentFiles, Session, SessionStats, Timings
from device.connection import Connection
from device.sealing import KEY_BYTES, MODEL_HEADER_BYTES, is_sealed, seal
from device.slice_sealing import are_sealed, seal_slices, split_slices
from device.training import Training, TrainOptions
from device.wire import Clock, FrameType

BATCH_BYTES = 1 << 20
"""Images go out in frames of about this size, and files in pieces of it."""


class AgentSession(Session):
    """A deployment loaded into an agent."""

    def __init__(
        self,
        connection: Connection,
        files: DeploymentFiles,
        tee_limit_bytes: int,
        clock: Clock = Clock.MONOTONIC,
    ) -> None:
        """Send the files, the hidden one sealed to the device that answers, unless it is sealed already.

        Args:
            connection: to a fresh agent.
            files: of the deployment.
            tee_limit_bytes: what :meth:`stats` says where the agent does not know.
            clock: what times are taken with.

        Raises:
            TeeOutOfMemory: the secure world cannot hold its part.
            SealedRefused: the TA refused the sealed file.
            BoardError: the agent refused a file, or died.
        """
        self._connection = connection
        self._limit = tee_limit_bytes
        self._clock = clock
        _greet(connection)
        key = b"" if files.sealed is None else _device_key(connection)
        self._device_key = key.hex()
        loaded = _load(connection, files, key)
        rank, d0, d1, d2, d3, self._classes, self._policy, n_crossings = wire.LOADED.unpack_from(loaded)
        self._shape = (d0, d1, d2, d3)[:rank]
        self._crossings = [
            Crossing.of(wire.CROSSING.unpack_from(loaded, wire.LOADED.size + i * wire.CROSSING.size))
            for i in range(n_crossings)
        ]

    def infer(self, images: NDArray[np.float32], *, boundary: bool = False) -> Answer:  # noqa: D102  (see Session)
        batch = self._checked(images, (len(images), *self._shape))
        n = len(batch)
        label = self._policy == wire.POLICY_LABEL
        outputs = np.empty((n, 1 if label else self._classes), dtype="<u4" if label else "<f4")
        crossed = [crossing.room(n) for crossing in self._crossings if boundary]
        step = max(1, BATCH_BYTES // max(1, 4 * math.prod(self._shape)))
        for first in range(0, n, step):
            part = batch[first : first + step]

            def take(number: int, answer: bytes, first: int = first) -> bytes:
                self._take(answer, outputs[first + number], [array[first + number] for array in crossed])
                return answer

            head = wire.INFER.pack(len(part), boundary)
            self._connection.ask_many(FrameType.INFER, len(part), take, head, part.data.cast("B"))
        pairs = zip(self._crossings, crossed, strict=False)
        kept = {crossing.name: crossing.values(array) for crossing, array in pairs}
        if label:
            return Answer(outputs[:, 0].astype(np.int64), kept)
        return Answer(outputs.astype(np.float32, copy=False), kept)

    def time(self, image: NDArray[np.float32], rounds: int, noops: int = 200) -> Timings:
        """See :meth:`Session.time`; ``noops``: how many empty calls to measure after the rounds."""
        if not 1 <= rounds <= wire.MAX_ROUNDS or not 0 <= noops <= wire.MAX_ROUNDS:
            raise BoardError(f"{rounds} rounds and {noops} empty calls: 1 (0) to {wire.MAX_ROUNDS} are allowed")
        data = self._checked(image, self._shape)
        head = wire.TIME.pack(rounds, noops, self._clock, 0)
        patience = 1 + rounds / 100  # one answer, after all of them
        answer = self._connection.ask(FrameType.TIME, head, data.reshape(-1).data.cast("B"), patience=patience)
        rounds, *_ = wire.TIME.unpack_from(answer)
        times = np.frombuffer(answer, "<u8", offset=wire.TIME.size).astype(np.int64)
        return Timings(times[:rounds], times[rounds : 2 * rounds], times[2 * rounds :])

    def stats(self) -> SessionStats:  # noqa: D102  (see Session)
        answer = wire.STATS.unpack(self._connection.ask(FrameType.STATS))
        switches, to, back, ree, peak, limit, shared, unseal_ns, unseal_cpu_ns = answer
        unseal_us = (unseal_cpu_ns if self._clock is Clock.PROCESS_CPU else unseal_ns) / 1e3
        return SessionStats(switches, to, back, ree, peak, limit or self._limit, shared, unseal_us)

    def train(self, options: TrainOptions) -> Training:  # noqa: D102  (see Session)
        key = bytes.fromhex(self._device_key)
        return Training(self._connection, self._clock, self._shape, self._crossings, key, options)

    def close(self) -> None:  # noqa: D102  (see Session)
        self._connection.close()

    def cut_off(self) -> None:
        """Kill what leads to the agent, as a pulled cable would: to see what becomes of the next question."""
        self._connection.cut_off()

    def _checked(self, array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        if array.shape != shape:
            raise BoardError(f"images are {array.shape}, the deployment takes {self._shape} each")
        return np.ascontiguousarray(array, dtype="<f4")

    def _take(self, answer: bytes, output: NDArray[np.generic], crossed: list[NDArray[np.generic]]) -> None:
        """Put one answer into the row of outputs and of each boundary tensor."""
        at = wire.RESULT.size
        expected = at + output.nbytes + sum(row.nbytes for row in crossed)
        if len(answer) != expected:
            raise BoardError(f"the agent's answer has {len(answer)} bytes, expected {expected}")
        for row in (output, *crossed):
            row[...] = np.frombuffer(answer, row.dtype, row.size, at).reshape(row.shape)
            at += row.nbytes


class Crossing(NamedTuple):
    """A tensor that crosses: its name, its shape without batch, and the scale of its steps where it is int8, else 0."""

    name: str
    shape: tuple[int, ...]
    scale: float

    @classmethod
    def of(cls, fields: tuple[Any, ...]) -> Crossing:
        """Read what the agent says of one (``wire.CROSSING``)."""
        step, from_tee, index, rank, *dims, dtype, scale = fields
        name = f"step{step}.{'out' if from_tee else 'in'}{index}"
        return cls(name, tuple(dims[:rank]), scale if dtype == wire.DTYPE_INT8 else 0.0)

    def room(self, n: int) -> NDArray[Any]:
        """An array for ``n`` of them, as the agent sends them: float32, or int8 with the channels last."""
        if not self.scale:
            return np.empty((n, *self.shape), dtype="<f4")
        return np.empty((n, *self.shape[1:], self.shape[0]), dtype="i1")

    def values(self, sent: NDArray[Any]) -> NDArray[np.float32]:
        """What they stand for, float32 [N, *shape]."""
        if not self.scale:
            return sent.astype(np.float32, copy=False)
        return np.ascontiguousarray(np.moveaxis(sent, -1, 1) * np.float32(self.scale), dtype=np.float32)


def _greet(connection: Connection) -> None:
    protocol, _, frame_max, _ = wire.HELLO.unpack(connection.ask(FrameType.HELLO))
    if protocol != wire.FRAME_VERSION or frame_max != wire.FRAME_MAX_BYTES:
        raise BoardError(f"the agent speaks protocol {protocol}, this side {wire.FRAME_VERSION}: rebuild the agent")


def ask_device_key(connection: Connection) -> bytes:
    """The public key of the device behind a fresh agent, X || Y, 64 bytes.

    Raises:
        BoardError: the agent speaks another protocol, or its TEE cannot tell.
    """
    _greet(connection)
    return _device_key(connection)


def _device_key(connection: Connection) -> bytes:
    key = connection.ask(FrameType.DEVICE_KEY)
    if len(key) != KEY_BYTES:
        raise BoardError(f"the agent's device key has {len(key)} bytes, expected {KEY_BYTES}")
    return key


def _load(connection: Connection, files: DeploymentFiles, device_key: bytes) -> bytes:
    public = _read(files.public, "public")
    sealed, slices = (b"", b"") if files.sealed is None else _sealed(files.sealed, files.slices, device_key)
    answer = connection.ask(FrameType.LOAD, wire.LOAD.pack(len(public), len(sealed), len(slices)))
    data = memoryview(public + sealed + slices)
    for at in range(0, len(data), BATCH_BYTES):
        answer = connection.ask(FrameType.LOAD_DATA, data[at : at + BATCH_BYTES])
    return answer


def _sealed(file: Path, slices_file: Path | None, device_key: bytes) -> tuple[bytes, bytes]:
    """What of the hidden files leaves this side, model and slices: nothing that another device than this could read."""
    data = _read(file, "sealed")
    slices = b"" if slices_file is None else _read(slices_file, "slices")
    if is_sealed(data):
        if slices and not are_sealed(slices):
            raise BoardError(f"{file} is sealed and its slices {slices_file} are not: they are sealed together")
        return data, slices
    if len(data) < MODEL_HEADER_BYTES:
        raise BoardError(f"the sealed file {file} has {len(data)} bytes: not a model file")
    if slices:
        data, slices = seal_slices(data, split_slices(data, slices))
    return seal(data, device_key), slices


def _read(file: Path, what: str) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BoardError(f"cannot read the {what} file {file}: {error.strerror}") from error
    if not data or len(data) >= 2**32:
        raise BoardError(f"the {what} file {file} has {len(data)} bytes: not a model file")
    return data
