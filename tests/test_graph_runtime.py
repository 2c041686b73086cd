"""The files as the C side reads them: accepted, run to the right answer, with the planned scratch."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_strategies import images_for, split_graphs
from hypothesis import given, settings

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from suite.graph.export import IMAGE, export_graph
from suite.graph.format import pack_public, pack_sealed
from suite.graph.fuse import fuse
from suite.graph.parse import parse
from suite.graph.partition import World, split
from suite.graph.planner import plan_memory
from suite.graph.reference import run_graph
from suite.graph.scratch import scratch_bytes
from suite.policy import OutputPolicy, PolicyKind

TA = Path(__file__).parents[1] / "ta"
PROBS = OutputPolicy(PolicyKind.PROBS)

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


_POINTERS = ("header", "tensors", "ops", "segments", "refs", "weights", "slices", "slice_key")


class _Model(ctypes.Structure):
    """``struct lb_model``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("scratch_bytes", ctypes.c_size_t),
        ("fault", ctypes.c_uint32),
    )


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> ctypes.CDLL:
    """ta/runtime and ta/kernels as a shared library."""
    out = tmp_path_factory.mktemp("runtime") / "libruntime.so"
    sources = sorted([*(TA / "runtime").glob("*.c"), *(TA / "kernels").glob("*.c")])
    flags = [
        "-std=gnu11",
        "-O1",
        "-shared",
        "-fPIC",
        *(f"-I{TA / part}" for part in ("include", "kernels", "runtime")),
    ]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(out)], check=True)
    library = ctypes.CDLL(str(out))
    library.lb_strerror.restype = ctypes.c_char_p
    return library


def _aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


class _Loaded:
    """One file in the C runtime's hands, with an arena full of NaN."""

    def __init__(self, runtime: ctypes.CDLL, data: bytes) -> None:
        self.runtime, self.info = runtime, parse(data)
        self.bytes = _aligned(len(data))
        self.bytes[:] = np.frombuffer(data, np.uint8)
        self.model = _Model()
        error = runtime.lb_model_parse(
            ctypes.byref(self.model), ctypes.c_void_p(self.bytes.ctypes.data), ctypes.c_size_t(len(data))
        )
        assert error == 0, (runtime.lb_strerror(error), self.model.fault)
        self.scratch = _aligned(self.model.scratch_bytes)
        self.arena = _aligned(self.info.arena_bytes).view(np.float32)
        self.arena[:] = np.nan

    def __getitem__(self, name: str) -> np.ndarray:
        place = self.info.places[name]
        return self.arena[place.offset // 4 : (place.offset + place.size) // 4].reshape(place.shape)

    def run(self, segment: int) -> None:
        arena, scratch = (ctypes.c_void_p(memory.ctypes.data) for memory in (self.arena, self.scratch))
        assert self.runtime.lb_segment_run(ctypes.byref(self.model), segment, arena, scratch) == 0


@settings(max_examples=100, deadline=None)
@given(split_graphs())
def test_both_files_run_in_c_to_the_graphs_answer(runtime, case):
    graph, in_tee = case
    segments = split(graph, in_tee)
    model_id = bytes(range(16))
    normal = _Loaded(runtime, pack_public(segments, PROBS, model_id))
    hidden = [s for s in segments if s.world is World.TEE]
    secure = _Loaded(runtime, pack_sealed(segments, PROBS, model_id)) if hidden else None
    images = images_for(graph, 1)
    normal[normal.info.segments[0].inputs[0]][...] = images["image"][0]
    entered = 0
    for index, step in enumerate(normal.info.segments):
        if step.world is World.REE:
            normal.run(index)
            continue
        inside = secure.info.segments[entered]
        secure.arena[:] = np.nan
        for outer, inner in zip(step.inputs, inside.inputs, strict=True):
            secure[inner][...] = normal[outer]
        secure.run(entered)
        for outer, inner in zip(step.outputs, inside.outputs, strict=True):
            normal[outer][...] = secure[inner]
        entered += 1
    answer = normal[normal.info.segments[-1].outputs[0]]
    np.testing.assert_allclose(answer, run_graph(graph, images)[graph.outputs[0]][0], rtol=1e-4, atol=1e-6)
    assert plan_memory(segments).scratch_bytes == (secure.model.scratch_bytes if secure else 0)
    public_scratch = [
        scratch_bytes(s.graph, step.node) for s in segments if s.world is World.REE for step in fuse(s.graph)
    ]
    assert normal.model.scratch_bytes == max(public_scratch, default=0)


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 3, padding=1),
        torch.nn.BatchNorm2d(24),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(24, 32, 3, padding=1),
        torch.nn.ReLU6(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 10),
    )


@pytest.mark.parametrize("hidden", [slice(None), slice(-2, None), slice(0, 2), slice(3, 5), slice(None, None, 4)])
def test_the_plan_bounds_what_the_emulated_board_holds_within_5_percent(tmp_path, hidden):
    graph = export_graph(_network(), (3, 32, 32), softmax=True)
    segments = split(graph, {node.name for node in graph.nodes[hidden]})
    files = DeploymentFiles(tmp_path / "public.lbm", tmp_path / "sealed.lbm")
    files.public.write_bytes(pack_public(segments, PROBS, bytes(16)))
    files.sealed.write_bytes(pack_sealed(segments, PROBS, bytes(16)))
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with EmulatedBoard().open(files) as session:
        outputs = session.infer(images).outputs
        held = session.stats().tee_peak_bytes
    np.testing.assert_allclose(outputs, run_graph(graph, {IMAGE: images})[graph.outputs[0]], rtol=1e-4, atol=1e-6)
    planned = plan_memory(segments).peak_bytes
    assert held <= planned <= 1.05 * held
