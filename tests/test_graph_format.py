import re
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_strategies import images_for, split_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.graph import packing, wire
from suite.graph.format import FormatError, pack_public, pack_sealed, sealed_bytes
from suite.graph.fuse import fuse
from suite.graph.ir import ATTRS, Graph, Node, Op
from suite.graph.parse import ModelFile, parse, parse_file
from suite.graph.partition import Segment, World, split
from suite.graph.reference import apply, run_graph
from suite.graph.wire import Layout
from suite.policy import OutputPolicy, PolicyKind

HEADER = Path(__file__).parents[1] / "ta" / "include" / "lb_model.h"
MODEL_ID = bytes(range(16))
PROBS = OutputPolicy(PolicyKind.PROBS)
LABEL = OutputPolicy(PolicyKind.LABEL)


def _packed(segments, policy=PROBS) -> tuple[bytes, bytes | None]:
    hidden = any(segment.world is World.TEE for segment in segments)
    return pack_public(segments, policy, MODEL_ID), pack_sealed(segments, policy, MODEL_ID) if hidden else None


def _hidden_everything() -> tuple[Segment, ...]:
    """Linear, relu, softmax from 3 features to 5 classes, all in the TEE."""
    rng = np.random.default_rng(0)
    weights = {
        "weight": rng.standard_normal((5, 3)).astype(np.float32),
        "bias": rng.standard_normal(5).astype(np.float32),
    }
    nodes = (
        Node("fc", Op.LINEAR, ("image",), "a", "fc", {}, weights),
        Node("act", Op.RELU, ("a",), "b", "act"),
        Node("prob", Op.SOFTMAX, ("b",), "c", "prob"),
    )
    shapes = {"image": (3,), "a": (5,), "b": (5,), "c": (5,)}
    return split(Graph(("image",), ("c",), nodes, shapes), lambda _: True)


# --- the header and its Python view ---


@pytest.mark.parametrize(
    ("struct", "dtype"),
    [
        ("lb_model_header", wire.HEADER),
        ("lb_tensor", wire.TENSOR),
        ("lb_op", wire.OP),
        ("lb_segment", wire.SEGMENT),
        ("lb_slice", wire.SLICE),
    ],
)
def test_structs_have_the_headers_fields(struct, dtype):
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    body = re.search(rf"struct {struct} \{{(.*?)\}};", text, re.S)[1]
    fields = [
        (name, int(count or 1))
        for line in re.findall(r"(?:uint32_t|float) ([^;]+);", body)
        for name, count in re.findall(r"(\w+)(?:\[(\d+)\])?", line)
    ]
    assert [(name, dtype[name].itemsize // 4) for name in dtype.names] == fields


def test_numbers_are_the_headers():
    text = HEADER.read_text()
    numbers = {name: int(value, 0) for name, value in re.findall(r"\b(LB_\w+) = (\d+)", text)}
    numbers |= {name: int(value, 0) for name, value in re.findall(r"#define (LB_\w+) (0x[0-9A-F]+|\d+)u", text)}
    ours = {f"LB_OP_{op.name}": number for op, number in wire.OP_KINDS.items()}
    ours |= {f"LB_WORLD_{world.name}": number for world, number in wire.WORLDS.items()}
    ours |= {f"LB_POLICY_{kind.name}": int(kind) for kind in PolicyKind}
    ours |= {f"LB_TENSOR_{kind.name}": int(kind) for kind in wire.TensorKind}
    ours |= {f"LB_DTYPE_{dtype.name}": int(dtype) for dtype in wire.DType}
    ours |= {f"LB_LAYOUT_{kind.name}": int(kind) for kind in Layout}
    ours |= {"LB_MODEL_MAGIC": wire.MAGIC, "LB_MODEL_VERSION": wire.VERSION}
    ours |= {"LB_ALIGN": wire.ALIGN, "LB_LANES": wire.LANES}
    ours |= {"LB_I8_LANES": wire.I8_LANES, "LB_I8_STEP": wire.I8_STEP, "LB_SLICE_KEY_BYTES": wire.SLICE_KEY_BYTES}
    assert ours == numbers


def test_attributes_stand_in_the_headers_order():
    text = HEADER.read_text()
    for op, names in ATTRS.items():
        assert re.search(rf"\*   {op.name} +{' '.join(names)}\n", text), op


# --- packing ---


@given(st.integers(1, 3), st.integers(1, 19), st.integers(1, 7), st.integers(0, 99))
def test_packed_weights_lie_as_the_header_says(groups, outs, width, seed):
    weight = np.random.default_rng(seed).standard_normal((groups * outs, width)).astype(np.float32)
    flat = packing.pack(weight, Layout.PACKED8, groups)
    blocks = -(-outs // 8)
    assert len(flat) == groups * blocks * width * 8
    assert len(flat) == packing.stored_floats(weight.shape, Layout.PACKED8, groups)
    cube = flat.reshape(groups, blocks, width, 8)
    for g in range(groups):
        for o in range(blocks * 8):
            want = weight[g * outs + o] if o < outs else np.zeros(width)
            np.testing.assert_array_equal(cube[g, o // 8, :, o % 8], want)
    np.testing.assert_array_equal(packing.unpack(flat, weight.shape, Layout.PACKED8, groups), weight)


# --- round trip ---


def _by_position(graph: Graph) -> list:
    """Structure and weights with tensors numbered as they appear, for graphs that differ in names only."""
    numbers = {name: index for index, name in enumerate(graph.inputs)}
    rows = []
    for step in fuse(graph):
        numbers[step.output] = len(numbers)
        rows.append(
            (
                step.node.op,
                step.fused,
                [numbers[t] for t in step.node.inputs],
                graph.shapes[step.output],
                dict(step.node.attrs),
                {key: array.tolist() for key, array in step.node.weights.items()},
            )
        )
    return [*rows, [numbers[t] for t in graph.outputs]]


@settings(max_examples=50, deadline=None)
@given(split_graphs())
def test_reading_gives_back_what_was_written(case):
    segments = split(*case)
    public, sealed = _packed(segments)
    read = parse(public)
    assert [s.world for s in read.segments] == [s.world for s in segments]
    worlds = {World.REE: iter(read.segments)}
    if sealed is not None:
        assert len(sealed) == sealed_bytes(segments)
        worlds[World.TEE] = iter(parse(sealed).segments)
    for mine in segments:
        told = next(worlds[World.REE])
        theirs = told if mine.world is World.REE else next(worlds[World.TEE])
        assert _by_position(theirs.graph) == _by_position(mine.graph)
        # What crosses has the same shapes, in the same order, in both files.
        for names, own in ((told.inputs, mine.graph.inputs), (told.outputs, mine.graph.outputs)):
            assert [read.places[t].shape for t in names] == [mine.graph.shapes[t] for t in own]
    assert public == pack_public(segments, PROBS, MODEL_ID)


@settings(max_examples=50, deadline=None)
@given(split_graphs())
def test_a_public_file_holds_no_hidden_weight(case):
    segments = split(*case)
    public, _ = _packed(segments)
    for segment in segments:
        if segment.world is World.TEE:
            for node in segment.graph.nodes:
                for array in node.weights.values():
                    assert array.tobytes() not in public
    assert all((s.graph is None) == (s.world is World.TEE) for s in parse(public).segments)


# --- execution from the arena alone ---


class _Memory:
    """An arena that starts as NaN, so that what nothing wrote, or something wrote over, shows."""

    def __init__(self, file: ModelFile) -> None:
        assert file.arena_bytes % 64 == 0
        self.file = file
        self.floats = np.full(file.arena_bytes // 4, np.nan, np.float32)

    def __getitem__(self, name: str) -> np.ndarray:
        place = self.file.places[name]
        assert place.offset % 64 == 0
        return self.floats[place.offset // 4 : (place.offset + place.size) // 4].reshape(place.shape)

    def run(self, graph: Graph) -> None:
        for step in fuse(graph):
            inputs = [torch.from_numpy(self[t].copy())[None] for t in step.node.inputs]
            made = apply(step.node, inputs)
            if step.fused:
                made = apply(Node("", step.fused, (), "", ""), [made])
            # A kernel may write before it has read everything: its inputs must not survive by luck.
            self[step.output][...] = np.nan
            assert all(
                np.array_equal(self[t], x[0].numpy(), equal_nan=True)
                for t, x in zip(step.node.inputs, inputs, strict=True)
            )
            self[step.output][...] = made[0].numpy()


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_a_query_run_within_the_two_arenas_gives_the_graphs_answer(case):
    graph, in_tee = case
    segments = split(graph, in_tee)
    public, sealed = _packed(segments)
    normal = _Memory(parse(public))
    secure = _Memory(parse(sealed)) if sealed else None
    hidden = iter(secure.file.segments if secure else ())
    images = images_for(graph, 1)
    normal[normal.file.segments[0].inputs[0]][...] = images["image"][0]
    for step in normal.file.segments:
        if step.graph is not None:
            normal.run(step.graph)
            continue
        inside = next(hidden)
        secure.floats[:] = np.nan
        for outer, inner in zip(step.inputs, inside.inputs, strict=True):
            secure[inner][...] = normal[outer]
        secure.run(inside.graph)
        for outer, inner in zip(step.outputs, inside.outputs, strict=True):
            normal[outer][...] = secure[inner]
    answer = normal[normal.file.segments[-1].outputs[0]]
    np.testing.assert_allclose(answer, run_graph(graph, images)[graph.outputs[0]][0], rtol=1e-5, atol=1e-7)


# --- policies and bad input ---


def test_the_file_that_makes_the_answer_states_the_policy():
    segments = _hidden_everything()
    public, sealed = (parse(data) for data in _packed(segments, LABEL))
    assert (public.policy, sealed.policy) == (None, LABEL)
    assert (public.n_classes, sealed.n_classes) == (5, 5)
    assert public.model_id == sealed.model_id == MODEL_ID
    answer = public.places[public.segments[-1].outputs[0]]
    assert (answer.shape, answer.size) == ((1,), 4)
    assert sealed.places[sealed.segments[-1].outputs[0]].shape == (5,)
    open_end = split(Graph(*_parts(segments)), {"fc"})
    public, sealed = (parse(data) for data in _packed(open_end, PROBS))
    assert (public.policy, sealed.policy) == (PROBS, None)


def _parts(segments):
    graph = segments[0].graph
    return graph.inputs, graph.outputs, graph.nodes, graph.shapes


def test_deployments_that_the_format_cannot_say_are_refused():
    segments = _hidden_everything()
    with pytest.raises(FormatError, match="more than the model's 5 classes"):
        pack_public(segments, OutputPolicy(PolicyKind.TOPK, 6), MODEL_ID)
    with pytest.raises(FormatError, match="16 bytes, not 3"):
        pack_public(segments, PROBS, b"abc")
    with pytest.raises(FormatError, match="at least one segment"):
        pack_public((), PROBS, MODEL_ID)
    in_ree = split(Graph(*_parts(segments)), ())
    with pytest.raises(FormatError, match="nothing is in the TEE"):
        pack_sealed(in_ree, PROBS, MODEL_ID)
    parted = split(Graph(*_parts(segments)), {"fc"})
    with pytest.raises(FormatError, match="segment 0 takes 'a'|first segment|hands out"):
        pack_public(parted[::-1], PROBS, MODEL_ID)
    two = Graph(("image",), ("a", "c"), segments[0].graph.nodes, segments[0].graph.shapes)
    with pytest.raises(FormatError, match="an answer is one tensor"):
        pack_public(split(two, ()), PROBS, MODEL_ID)


def test_damage_is_named(tmp_path):
    public, sealed = _packed(_hidden_everything())
    with pytest.raises(FormatError, match="its header says"):
        parse(sealed[:-64])
    with pytest.raises(FormatError, match="begins with"):
        parse(b"\0" * 512)
    path = tmp_path / "model.bin"
    path.write_bytes(public[:100])
    with pytest.raises(FormatError, match=re.escape(str(path))):
        parse_file(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_brings_the_reader_down(data):
    _, sealed = _packed(_hidden_everything())
    words = np.frombuffer(sealed, "<u4").copy()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(4, len(words) - 1))
        words[index] = data.draw(st.sampled_from([0, 1, 2, 3, 7, 64, 2**31, 2**32 - 1]))
    try:
        parse(words.tobytes())
    except FormatError as error:
        assert "\n" not in str(error)  # noqa: PT017  (that nothing is raised is fine too)
