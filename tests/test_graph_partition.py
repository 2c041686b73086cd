import itertools
from collections import deque

import numpy as np
import pytest
from graph_strategies import graphs, images_for, split_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.graph.fuse import fuse
from suite.graph.ir import Graph, GraphError, Node, Op
from suite.graph.partition import World, merge, split
from suite.graph.reference import run_graph, run_segments


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_segments_compute_what_the_whole_graph_computes(case):
    graph, in_tee = case
    segments = split(graph, in_tee)
    answer = graph.outputs[0]
    images = images_for(graph)
    np.testing.assert_array_equal(run_segments(segments, images)[answer], run_graph(graph, images)[answer])
    np.testing.assert_array_equal(run_graph(merge(segments), images)[answer], run_graph(graph, images)[answer])


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_every_node_runs_once_in_its_world_and_worlds_alternate(case):
    graph, in_tee = case
    segments = split(graph, in_tee)
    placed = [(node.name, segment.world) for segment in segments for node in segment.graph.nodes]
    assert sorted(placed) == sorted(
        (node.name, World.TEE if node.name in in_tee else World.REE) for node in graph.nodes
    )
    assert all(a.world is not b.world for a, b in itertools.pairwise(segments))
    assert segments[-1].graph.outputs == graph.outputs
    assert segments[0].graph.inputs == graph.inputs


def _fewest_segments(graph: Graph, in_tee: frozenset[str]) -> int:
    """Shortest path over all orders, one node a move; a move costs 1 when it changes the world."""
    makers = {node.output: node.name for node in graph.nodes}
    needs = {node.name: {makers[t] for t in node.inputs if t in makers} for node in graph.nodes}
    seen = set()
    queue = deque([(0, frozenset(), None)])
    while queue:
        cost, done, world = queue.popleft()
        if len(done) == len(needs):
            return cost
        if (done, world) in seen:
            continue
        seen.add((done, world))
        for name, before in needs.items():
            if name not in done and before <= done:
                next_world = name in in_tee
                if next_world is world:
                    queue.appendleft((cost, done | {name}, world))
                else:
                    queue.append((cost + 1, done | {name}, next_world))
    raise AssertionError("no order exists")


@settings(max_examples=40, deadline=None)
@given(split_graphs())
def test_the_order_needs_as_few_segments_as_any(case):
    graph, in_tee = case
    assert len(split(graph, in_tee)) == _fewest_segments(graph, in_tee)


def test_a_branch_does_not_interrupt_its_world():
    # relu(image) -> a, b; a and c in the TEE, b in the REE: listed a, b, c, but two segments suffice.
    nodes = tuple(
        Node(name, op, inputs, name, name)
        for name, op, inputs in [
            ("a", Op.RELU, ("image",)),
            ("b", Op.RELU6, ("image",)),
            ("c", Op.ADD, ("a", "b")),
        ]
    )
    graph = Graph(("image",), ("c",), nodes, dict.fromkeys(["image", "a", "b", "c"], (3,)))
    segments = split(graph, lambda node: node.op is not Op.RELU6)
    assert [(s.world, [n.name for n in s.graph.nodes]) for s in segments] == [
        (World.REE, ["b"]),
        (World.TEE, ["a", "c"]),
    ]
    assert segments[1].graph.inputs == ("image", "b")


@settings(max_examples=5, deadline=None)
@given(graphs(max_steps=2))
def test_an_unknown_node_is_named(graph):
    with pytest.raises(GraphError, match="no node 'conv99'"):
        split(graph, {"conv99"})


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data())
def test_fused_steps_keep_every_tensor_that_something_reads(graph, data):
    wanted = data.draw(st.sampled_from([node.output for node in graph.nodes]))
    graph = Graph(graph.inputs, (*dict.fromkeys([*graph.outputs, wanted]),), graph.nodes, graph.shapes)
    steps = fuse(graph)
    made = [*graph.inputs]
    for step in steps:
        assert set(step.node.inputs) <= set(made)
        made.append(step.output)
    assert set(graph.outputs) <= set(made)
    assert sum(1 if step.fused is None else 2 for step in steps) == len(graph.nodes)
