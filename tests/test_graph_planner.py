import pickle
from itertools import combinations

import numpy as np
import pytest
from graph_strategies import graphs, split_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.graph.arena import Life, lives, place, place_sealed
from suite.graph.format import pack_sealed
from suite.graph.ir import Graph, Node, Op
from suite.graph.parse import parse
from suite.graph.partition import Segment, World, split
from suite.graph.planner import DoesNotFit, plan_memory, plan_tee
from suite.graph.wire import HEADER
from suite.policy import OutputPolicy, PolicyKind

_LIVES = st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=25).map(
    lambda rows: [Life(f"t{i}", size, first, first + more) for i, (size, first, more) in enumerate(rows)]
)


@given(_LIVES)
def test_tensors_that_live_together_never_overlap(tensors):
    arena = place(tensors)
    for a, b in combinations(tensors, 2):
        if a.first <= b.last and b.first <= a.last:
            start, other = arena.offsets[a.tensor], arena.offsets[b.tensor]
            assert start + a.size <= other or other + b.size <= start
    assert all(offset % 64 == 0 for offset in arena.offsets.values())
    assert all(arena.offsets[t.tensor] + t.size <= arena.size for t in tensors)
    # No plan can be smaller than the fullest moment, and this one is no worse than having no plan.
    fullest = max(sum(t.size for t in tensors if t.first <= m <= t.last) for m in range(20))
    assert fullest <= arena.size <= sum(-(-t.size // 64) * 64 for t in tensors)


def test_a_chain_needs_its_two_largest_neighbours():
    sizes = [640, 1280, 64, 64, 1920, 128]
    tensors = [Life(str(i), size, i, i + 1) for i, size in enumerate(sizes)]
    assert place(tensors).size == 1920 + 128


def test_ties_and_order_do_not_change_the_plan():
    tensors = [Life(name, 64, 0, 3) for name in "abcd"] + [Life("e", 128, 2, 5)]
    assert place(tensors) == place(tensors[::-1])


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_inputs_live_from_the_start_and_outputs_to_the_end(case):
    for segment in split(*case):
        alone = {one.tensor: one for one in lives([Segment(World.REE, segment.graph)])}
        end = max(one.last for one in alone.values())
        assert all(alone[name].first == 0 for name in segment.graph.inputs)
        assert all(alone[name].last == end for name in segment.graph.outputs)


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_the_plan_is_what_the_sealed_file_says(case):
    segments = split(*case)
    plan = plan_memory(segments)
    hidden = [s.graph for s in segments if s.world is World.TEE]
    if not hidden:
        assert plan.peak_bytes == 0
        return
    sealed = pack_sealed(segments, OutputPolicy(PolicyKind.PROBS), bytes(16))
    assert plan.file_bytes == len(sealed)
    assert plan.arena_bytes == parse(sealed).arena_bytes
    for side in ("inputs", "outputs"):
        assert plan.shared_bytes >= max(sum(g.bytes_of(t) for t in getattr(g, side)) for g in hidden)
    assert plan.shared_bytes % 8192 in (0, 4096)
    assert sum(one.weights_bytes for one in plan.layers) == _weights_bytes(sealed)


def _weights_bytes(sealed: bytes) -> int:
    return int(np.frombuffer(sealed, HEADER, 1)[0]["weights_bytes"])


def _big() -> tuple[Segment, ...]:
    nodes = (
        Node("f", Op.FLATTEN, ("image",), "a", "flat"),
        Node(
            "fc",
            Op.LINEAR,
            ("a",),
            "b",
            "classifier.1",
            {},
            {"weight": np.zeros((1024, 3072), np.float32), "bias": np.zeros(1024, np.float32)},
        ),
    )
    shapes = {"image": (3, 32, 32), "a": (3072,), "b": (1024,)}
    return split(Graph(("image",), ("b",), nodes, shapes), {"fc"})


def test_what_does_not_fit_is_refused_with_the_layers_that_are_too_large():
    plan = plan_tee(_big(), 16 * 2**20)
    assert 12 * 2**20 < plan.peak_bytes < 12.5 * 2**20
    with pytest.raises(DoesNotFit) as refused:
        plan_tee(_big(), plan.peak_bytes - 1)
    message = str(refused.value)
    assert "\n" not in message
    assert "classifier.1 (12.01 MiB)" in message
    assert f"({plan.peak_bytes} bytes), the limit is" in message
    table = refused.value.plan.table()
    assert "classifier.1" in table
    assert str(1024 * 3072 * 4 + 4096) in table
    again = pickle.loads(pickle.dumps(refused.value))
    assert str(again) == message
    assert again.plan == plan
    assert plan_tee(_big(), plan.peak_bytes) == plan


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_reuse_saves_memory_but_never_below_one_nodes_need(graph):
    arena = place_sealed(graph)
    for node in graph.nodes:
        if node.op is not Op.RELU and node.op is not Op.RELU6:
            assert arena.size >= sum(graph.bytes_of(t) for t in {*node.inputs})
    assert arena.size <= sum(-(-graph.bytes_of(t) // 64) * 64 for t in graph.shapes)
