"""int8 graphs for tests: random ones, quantized, and the C runtime that runs them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from c_build import kernels, pointer

from suite.graph.format import can_stream, pack_sealed, pack_slices
from suite.graph.ir import Graph
from suite.graph.parse import Place, parse
from suite.graph.partition import Segment, split
from suite.graph.quantize import calibrate, quantize
from suite.graph.streaming import slices_of
from suite.policy import OutputPolicy

PROBS = OutputPolicy.parse("probs")
SLICE_MISSING = 36


def images_of(graph: Graph, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *graph.shapes[graph.inputs[0]])).astype(np.float32)


def quantized(graph: Graph, percentile: float = 100.0) -> Graph:
    return quantize(graph, calibrate(graph, images_of(graph, 4), percentile))


def with_slices(graph: Graph, slice_bytes: int) -> Graph:
    nodes = (replace(n, slices=slices_of(n, slice_bytes)) if can_stream(n) else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def hidden(graph: Graph) -> tuple[Segment, ...]:
    return split(graph, {node.name for node in graph.nodes})


_POINTERS = ("header", "tensors", "ops", "segments", "refs", "weights", "slices", "slice_key")


class Model(ctypes.Structure):
    """``struct lb_model``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("scratch_bytes", ctypes.c_size_t),
        ("fault", ctypes.c_uint32),
    )


class Cursor(ctypes.Structure):
    """``struct lb_cursor``."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("op", "end", "slice", "waiting"))


def aligned_bytes(size: int, fill: int = 0x7F) -> np.ndarray:
    raw = np.full(size + 128, fill, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


class Secure:
    """A sealed file with one segment in the C runtime's hands; what lies behind its memory must stay as it is."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.library, data = kernels(), pack_sealed(segments, PROBS, bytes(16))
        self.info, self.slices = parse(data), pack_slices(segments)
        self.file = aligned_bytes(len(data))
        self.file[:] = np.frombuffer(data, np.uint8)
        self.model = Model()
        error = self.library.lb_model_parse(ctypes.byref(self.model), pointer(self.file), ctypes.c_size_t(len(data)))
        assert error == 0, (self.library.lb_strerror(error), self.model.fault)
        self.arena = aligned_bytes(self.info.arena_bytes)
        self.whole_scratch = aligned_bytes(self.model.scratch_bytes + 64)
        self.cursor = Cursor()

    def put(self, image: np.ndarray) -> None:
        place = self.info.places[self.info.segments[0].inputs[0]]
        self.arena[place.offset : place.offset + place.size] = np.ascontiguousarray(image).view(np.uint8).reshape(-1)

    def run(self, segment: int = 0) -> int:
        return self.library.lb_segment_run(ctypes.byref(self.model), segment, *self._memory())

    def stream(self) -> int:
        """Run with all slices in order; how many were taken."""
        assert self.begin() == 0
        taken = 0
        while True:
            self.advance()
            if not self.cursor.waiting:
                assert self.cursor.op == self.cursor.end
                return taken
            while self.cursor.waiting:
                assert self.take(self.slices[self.cursor.slice]) == 0
                taken += 1

    def begin(self, segment: int = 0) -> int:
        return self.library.lb_cursor_begin(ctypes.byref(self.model), segment, ctypes.byref(self.cursor))

    def advance(self) -> None:
        self.library.lb_cursor_advance(ctypes.byref(self.model), ctypes.byref(self.cursor), *self._memory())

    def take(self, data: bytes) -> int:
        held = aligned_bytes(len(data))
        held[:] = np.frombuffer(data, np.uint8)
        size = ctypes.c_size_t(len(data))
        model, cursor = ctypes.byref(self.model), ctypes.byref(self.cursor)
        return self.library.lb_cursor_take(model, cursor, *self._memory(), pointer(held), size)

    def answer(self) -> np.ndarray:
        assert (self.whole_scratch[self.model.scratch_bytes :] == 0x7F).all()
        return self.values(self.info.segments[0].outputs[0])

    def values(self, tensor: str) -> np.ndarray:
        place: Place = self.info.places[tensor]
        data = self.arena[place.offset : place.offset + place.size]
        if not place.scale:
            return data.view(np.float32).reshape(place.shape).copy()
        return np.moveaxis(data.view(np.int8).reshape(*place.shape[1:], place.shape[0]), -1, 0).copy()

    def _memory(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
        return pointer(self.arena), pointer(self.whole_scratch)
