"""Sealed slices: what the owner seals the TA opens, in its place alone, and a streamed query equals a whole one."""

import ctypes
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_build import pointer, small_graph
from int8_graphs import Secure, aligned_bytes, hidden, images_of, quantized, with_slices

from device.build import FLAGS, INCLUDES, find_compiler, part_sources
from suite.graph import wire
from suite.graph.format import pack_sealed, pack_slices
from suite.graph.reference import run_graph
from suite.policy import OutputPolicy

pytest.importorskip("cryptography")
slice_sealing = pytest.importorskip("device.slice_sealing")

ROOT = Path(__file__).parents[1]
PROBS = OutputPolicy.parse("probs")
ARGUMENT, SLICE = 29, 35


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    """Runtime, kernels and the opening of slices."""
    out = tmp_path_factory.mktemp("slices") / "libslices.so"
    sources = [*part_sources("kernels"), *part_sources("runtime"), ROOT / "ta/streaming/slice_opening.c"]
    sources.append(ROOT / "tests/c/slice_cipher_libcrypto.c")
    includes = [f"-I{ROOT / path}" for path in (*INCLUDES, "ta/streaming")]
    command = [*find_compiler(), *FLAGS, "-O1", "-shared", *includes, *map(str, sources), "-ldl", "-o", str(out)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(out))
    loaded.lb_slice_buffer_bytes.restype = ctypes.c_size_t
    return loaded


class Streaming(Secure):
    """A model whose slices are sealed."""

    def __init__(self, library: ctypes.CDLL, model_id: bytes = bytes(16)) -> None:
        self.graph = with_slices(quantized(small_graph()), 64)
        segments = hidden(self.graph)
        self.plain = pack_sealed(segments, PROBS, model_id)
        model, self.sealed = slice_sealing.seal_slices(self.plain, pack_slices(segments))
        self.records = slice_sealing.sealed_slices(self.sealed)
        super().__init__(segments)
        self.library = library
        self.file[:] = np.frombuffer(model, np.uint8)
        size = ctypes.c_size_t(len(model))
        assert library.lb_model_parse(ctypes.byref(self.model), pointer(self.file), size) == 0
        self.buffer = aligned_bytes(library.lb_slice_buffer_bytes(ctypes.byref(self.model)) + 64)

    def start(self) -> None:
        self.put(images_of(self.graph, 1)[0])
        assert self.begin() == 0
        self.advance()

    def feed(self, record: bytes) -> int:
        model, cursor = ctypes.byref(self.model), ctypes.byref(self.cursor)
        size = ctypes.c_size_t(len(record))
        memory = (*self._memory(), pointer(self.buffer))
        error = self.library.lb_slice_feed(model, cursor, *memory, record, size)
        whole = self.library.lb_slice_buffer_bytes(model)
        assert (self.buffer[whole:] == 0x7F).all()
        if error != ARGUMENT:
            assert not self.buffer[: len(record)].any()  # wiped, whatever came of it
        return error


def test_a_streamed_query_gives_what_the_whole_model_gives(library):
    streaming = Streaming(library)
    for _ in range(2):  # the same slices, query after query
        streaming.start()
        for record in streaming.records:
            assert streaming.feed(record) == 0
            streaming.advance()
        assert not streaming.cursor.waiting
        want = run_graph(streaming.graph, {"image": images_of(streaming.graph, 1)})["p"][0]
        np.testing.assert_allclose(streaming.answer(), want, rtol=1e-6)
    assert len(streaming.records) == 3
    assert streaming.feed(streaming.records[0]) == ARGUMENT  # nothing is waited for


def test_no_slice_opens_in_another_place_or_after_a_change(library):
    streaming, other = Streaming(library), Streaming(library, model_id=bytes(range(16)))
    again = Streaming(library)
    streaming.start()
    first, second, third = streaming.records
    assert len(second) != len(first)
    assert streaming.feed(second) == ARGUMENT
    for evil in (other.records[0], again.records[0], bytes(len(first))):
        assert streaming.feed(evil) == SLICE
    for at in (0, len(first) // 2, len(first) - 1):
        changed = bytearray(first)
        changed[at] ^= 1
        assert streaming.feed(bytes(changed)) == SLICE
    assert streaming.feed(first[:-1]) == ARGUMENT
    assert streaming.feed(first + b"\0") == ARGUMENT
    assert streaming.cursor.slice == 0
    assert streaming.feed(first) == 0
    streaming.advance()
    assert streaming.feed(first if len(first) == len(second) else bytes(len(second))) == SLICE
    assert streaming.feed(second) == 0
    assert streaming.feed(second if len(third) == len(second) else bytes(len(third))) == SLICE
    assert streaming.feed(third) == 0


def test_the_key_is_drawn_anew_and_the_slices_are_not_readable(library):
    one, two = Streaming(library), Streaming(library)
    assert not {bytes(r) for r in one.records} & {bytes(r) for r in two.records}
    header = np.frombuffer(one.plain, wire.HEADER, 1)[0]
    at = int(header["slice_key_off"])
    assert one.plain[at : at + 32] == bytes(32)
    assert bytes(one.file[at : at + 32]) != bytes(two.file[at : at + 32])
    for plain in one.slices:
        assert plain not in one.sealed


def test_slices_of_another_model_and_damaged_files_are_refused():
    graph = quantized(small_graph())
    segments = hidden(with_slices(graph, 64))
    model, slices = pack_sealed(segments, PROBS, bytes(16)), pack_slices(segments)
    with pytest.raises(slice_sealing.SliceSealingError, match=r"leaves out 3 slices of \d+ bytes, given are 2 of"):
        slice_sealing.seal_slices(model, slices[:2])
    with pytest.raises(slice_sealing.SliceSealingError, match="leaves out 0 slices"):
        slice_sealing.seal_slices(pack_sealed(hidden(graph), PROBS, bytes(16)), slices)
    with pytest.raises(slice_sealing.SliceSealingError, match="no model file"):
        slice_sealing.seal_slices(b"LBM2" + model[4:], slices)
    _, sealed = slice_sealing.seal_slices(model, slices)
    for damaged in (sealed[:20], b"X" + sealed[1:], sealed[:-1], sealed + b"\0", sealed[:4] + b"\2" + sealed[5:]):
        with pytest.raises(slice_sealing.SliceSealingError):
            slice_sealing.sealed_slices(damaged)


def test_python_s_view_is_the_header_s(tmp_path):
    sizes = {
        "sizeof(struct lb_slices_header)": slice_sealing.HEADER.size,
        "sizeof(struct lb_slice_place)": slice_sealing.PLACE.size,
        "sizeof(struct lb_slice)": wire.SLICE.itemsize,
        "offsetof(struct lb_model_header, n_slices)": 88,
        "offsetof(struct lb_model_header, slice_key_off)": 100,
        "LB_SLICE_KEY_BYTES": slice_sealing.KEY_BYTES,
        "LB_SLICE_TAG_BYTES": slice_sealing.TAG_BYTES,
        "LB_SLICES_FORMAT": slice_sealing.FORMAT,
        "LB_SLICES_MAGIC": struct.unpack("<I", slice_sealing.MAGIC)[0],
        "LB_SLICE_PLACE_MAGIC": struct.unpack("<I", slice_sealing.PLACE_MAGIC)[0],
    }
    checks = "\n".join(f'_Static_assert({name} == {value}u, "{name}");' for name, value in sizes.items())
    source = tmp_path / "sizes.c"
    source.write_text(f'#include <stddef.h>\n#include "lb_slices.h"\n{checks}\n')
    include = f"-I{ROOT / 'ta/include'}"
    subprocess.run([*find_compiler(), "-std=c11", include, "-c", str(source), "-o", str(tmp_path / "o")], check=True)
