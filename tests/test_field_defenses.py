"""The defenses of the field: where each cuts, that the parts of a layer make the layer, and what its seed changes."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_strategies import graphs, images_for
from hypothesis import given, settings
from hypothesis import strategies as st

from suite import Deployment, OutputPolicy, World
from suite.deploying import deploy, untrained_victim
from suite.graph.ir import Graph, GraphError, Node, Op
from suite.graph.macs import graph_macs
from suite.graph.partition import Segment, merge, subgraph
from suite.graph.reference import run_graph, run_segments
from suite.model import MAX_SEGMENTS
from suite.policy import PolicyKind
from suite.registry import REGISTRY, Kind, PluginError, discover
from suite.spec import parse

discover()
ARCHITECTURES = [plugin.name for plugin in REGISTRY.all(Kind.VICTIM) if not plugin.cost_only]
SHAPE, CLASSES = (3, 32, 32), 10
LINEAR = {Op.CONV2D, Op.LINEAR}
TAKE_LAYERS_APART = ("magnitude", "soter", "shadownet")


def victim_of(architecture):
    return untrained_victim(architecture, SHAPE, CLASSES)


def deployed(text, architecture="alexnet"):
    (spec,) = parse(Kind.DEFENSE, text)
    return deploy(spec, victim_of(architecture))


def refused(text, message, architecture="alexnet"):
    with pytest.raises(PluginError, match=re.escape(message)) as caught:
        deployed(text, architecture)
    assert "\n" not in str(caught.value)


def names(graphs):
    return [node.name for graph in graphs for node in graph.nodes]


def by_name(graphs):
    return {node.name: node for graph in graphs for node in graph.nodes}


# ---- DarkneTZ's ranges


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_darknetz_hides_exactly_its_range_and_comes_back(architecture):
    graph = victim_of(architecture).graph
    everything, layers = [node.name for node in graph.nodes], graph.parameter_nodes()
    n = len(layers)
    for start, end in {(1, 1), (2, 2), (2, 4), (3, n - 1), (1, n - 1)}:
        deployment = deployed(f"darknetz[start={start},end={end},output=probs]", architecture)
        first, after = everything.index(layers[start - 1].name), everything.index(layers[end].name)
        assert names(deployment.hidden) == everything[first:after]
        assert sorted(names(deployment.public)) == sorted(everything[:first] + everything[after:])
        worlds = [segment.world for segment in deployment.segments]
        assert worlds == [World.REE, World.TEE, World.REE][start == 1 :]  # two switches at most
        assert deployment.policy.kind is PolicyKind.PROBS


def test_a_range_to_the_end_is_the_last_k_layers():
    for end_of_it, k in ((("start=5", "end=6"), 2), (("start=1", "end=6"), 6)):
        ranged, last = deployed(f"darknetz[{','.join(end_of_it)}]"), deployed(f"darknetz[k={k}]")
        assert ranged.policy == last.policy
        assert names(ranged.hidden) == names(last.hidden)


def test_ranges_that_do_not_fit_are_refused_with_the_range():
    has = "alexnet has 6 layers with parameters, so "
    for start, end in ((0, 2), (3, 2), (2, 7), (-1, -1)):
        text = f"darknetz[start={start},end={end}]"
        refused(text, f"{text}: {has}start and end are 1 to 6, and start is not above end")
    refused("darknetz[start=2,end=4]", f"darknetz[start=2,end=4]: {has}layer 5 and the answer are the normal world's")
    refused("darknetz[start=2,end=4,output=rounded2]", "write output=probs, or end=6")
    for text in ("darknetz[]", "darknetz[start=2]", "darknetz[end=2]", "darknetz[k=2,start=1,end=2]"):
        refused(text, "darknetz needs k or a range: write darknetz[k=2], or darknetz[start=2,end=3,output=probs]")


def test_what_is_not_set_is_not_in_the_text_nor_in_the_slug():
    (last,) = parse(Kind.DEFENSE, "darknetz[k=2]")
    assert (last.text, last.slug) == ("darknetz[k=2,output=top1]", "darknetz_k2")
    (middle,) = parse(Kind.DEFENSE, "darknetz[start=3,output=probs,end=4]")
    assert (middle.text, middle.slug) == ("darknetz[start=3,end=4,output=probs]", "darknetz_start3_end4_probs")
    for spec in (last, middle, *parse(Kind.DEFENSE, "serdab")):
        assert parse(Kind.DEFENSE, spec.text) == [spec]


# ---- Serdab


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_serdab_hides_exactly_the_first_k_layers(architecture):
    graph = victim_of(architecture).graph
    everything, layers = [node.name for node in graph.nodes], graph.parameter_nodes()
    for k in (1, 2, len(layers) - 1):
        deployment = deployed(f"serdab[k={k}]", architecture)
        cut = everything.index(layers[k].name)
        assert names(deployment.hidden) == everything[:cut]
        assert names(deployment.public) == everything[cut:]
        assert [segment.world for segment in deployment.segments] == [World.TEE, World.REE]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_serdab_cuts_where_nothing_finer_than_its_resolution_comes_out(architecture):
    graph = victim_of(architecture).graph
    n = len(graph.parameter_nodes())

    def finest(deployment):
        inside, outside = deployment.segments
        return max(inside.graph.shapes[t][1] if len(inside.graph.shapes[t]) == 3 else 1 for t in outside.graph.inputs)

    for resolution in (20, 10):
        chosen = deployed(f"serdab[resolution={resolution}]", architecture)
        assert finest(chosen) <= resolution
        k = sum(len(g.parameter_nodes()) for g in chosen.hidden)
        assert 1 <= k < n
        assert all(finest(deployed(f"serdab[k={less}]", architecture)) > resolution for less in range(1, k))


def test_serdab_refuses_what_does_not_fit():
    for k in (0, 6, -1):
        refused(f"serdab[k={k}]", f"serdab[k={k}]: alexnet has 6 layers with parameters, so k is 1 to 5")
    refused("serdab[resolution=0]", "nothing that coarse of 3x32x32 images before its last layer; give a higher")


# ---- those that take layers apart


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("defense", TAKE_LAYERS_APART)
def test_only_linear_operators_are_outside_and_no_bias_is(architecture, defense):
    graph, deployment = victim_of(architecture).graph, deployed(defense, architecture)
    outside = by_name(deployment.public)
    assert {node.op for node in outside.values()} <= LINEAR
    assert not any(node.weights["bias"].any() for node in outside.values())
    linear = [node for node in graph.nodes if node.op in LINEAR]
    layers = {node.layer for node in outside.values()}
    assert layers <= {node.layer for node in linear}
    assert len(outside) == (round(0.8 * len(linear)) if defense == "soter" else len(linear))
    assert [node.output for node in merge(deployment.segments).nodes if node.output in graph.shapes]
    assert deployment.segments[-1].world is World.TEE  # so that any output policy can be had


def test_they_can_let_out_any_answer():
    for defense in TAKE_LAYERS_APART:
        assert deployed(f"{defense}[output=top1]", "vgg7").policy.label_only
        assert deployed(defense, "vgg7").policy.kind is PolicyKind.PROBS


@settings(deadline=None, max_examples=60)
@given(graphs(), st.sampled_from(TAKE_LAYERS_APART), st.integers(0, 99))
def test_any_graph_taken_apart_computes_what_it_did(graph, defense, seed):
    """Grouped and depthwise convolutions, branches, concatenations and all."""
    linear = sum(node.op in LINEAR for node in graph.nodes)
    if defense == "soter" and linear < 2:
        return
    victim = replace(victim_of("alexnet"), graph=graph, n_classes=graph.shapes[graph.outputs[0]][0])
    text = defense if defense == "magnitude" else f"{defense}[seed={seed}]"
    (spec,) = parse(Kind.DEFENSE, text)
    images = images_for(graph)
    whole = run_graph(graph, images)[graph.outputs[0]]
    parts = run_segments(deploy(spec, victim).segments, images)[graph.outputs[0]]
    np.testing.assert_allclose(parts, whole, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_magnitude_hides_the_largest_weights_and_nothing_else(architecture):
    for fraction in (0.01, 0.3):
        deployment = deployed(f"magnitude[fraction={fraction}]", architecture)
        outside, inside = by_name(deployment.public), by_name(deployment.hidden)
        for node in victim_of(architecture).graph.parameter_nodes():
            public, secret = (
                part[f"{node.name}_{which}"].weights for part, which in ((outside, "public"), (inside, "secret"))
            )
            np.testing.assert_array_equal(public["weight"] + secret["weight"], node.weights["weight"])
            np.testing.assert_array_equal(secret["bias"], node.weights["bias"])
            hidden = secret["weight"] != 0
            assert not (hidden & (public["weight"] != 0)).any()
            assert hidden.sum() == int(np.ceil(fraction * hidden.size))
            assert np.abs(public["weight"]).max() <= np.abs(secret["weight"][hidden]).min()


def test_soter_scales_what_goes_out_and_the_seed_says_what_goes():
    graph = victim_of("resnet20").graph
    original = by_name([graph])
    drawn = set()
    for seed in (0, 1, 2):
        deployment = deployed(f"soter[theta=0.5,seed={seed}]", "resnet20")
        outside, inside = by_name(deployment.public), by_name(deployment.hidden)
        assert len(outside) == round(0.5 * len(original.keys() & {n.name for n in graph.parameter_nodes()}))
        scalars = set()
        for name, node in outside.items():
            before = original[name.removesuffix("_scaled")]
            restore = inside[f"{before.name}_restored"].weights
            (scalar,) = set(1 / restore["scale"].astype(np.float64))
            np.testing.assert_allclose(node.weights["weight"], before.weights["weight"] * scalar, rtol=1e-6)
            np.testing.assert_array_equal(restore["shift"], before.weights["bias"])
            assert 0.24 < abs(scalar) < 4.1
            scalars.add(scalar)
        assert len(scalars) == len(outside)  # one for each operator
        drawn.add(frozenset(outside))
    assert len(drawn) == 3


def test_shadownet_s_secret_undoes_what_the_normal_world_has():
    deployment = deployed("shadownet[ratio=0.25]", "vgg7")
    outside, inside = by_name(deployment.public), by_name(deployment.hidden)
    for node in victim_of("vgg7").graph.parameter_nodes():
        shadow, undo = (
            part[f"{node.name}_{which}"].weights["weight"].astype(np.float64)
            for part, which in ((outside, "shadow"), (inside, "restored"))
        )
        flat, n = shadow.reshape(len(shadow), -1), len(node.weights["weight"])
        undo = undo.reshape(n, -1)
        before = node.weights["weight"].reshape(n, -1)
        assert len(shadow) == n + max(1, round(0.25 * n))
        np.testing.assert_allclose(undo @ flat, before, atol=1e-6 * np.abs(before).max())
        assert ((undo != 0).sum(axis=1) == 2).all()
        assert (np.abs(undo[undo != 0]) > 0.49).all()
        assert (np.abs(undo[undo != 0]) < 2.01).all()
        # No filter lies outside as it was, nor as a multiple of itself.
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (flat, before)]
        assert np.abs(unit[0] @ unit[1].T).max() < 0.999


@pytest.mark.parametrize("defense", ["soter", "shadownet"])
def test_the_seed_changes_what_lies_outside(defense):
    one, same, other = ([g.fingerprint() for g in deployed(f"{defense}[seed={seed}]").public] for seed in (0, 0, 1))
    assert one == same
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magnitude[fraction=0]", "a fraction of the weights is above 0 and below 1"),
        ("magnitude[fraction=1]", "magnitude[fraction=1]: a fraction of the weights"),
        ("soter[theta=1]", "soter[theta=1]: the fraction of operators outside is above 0 and below 1"),
        ("soter[seed=-1]", "soter[seed=-1]: a seed is a whole number from 0"),
        ("shadownet[ratio=0]", "shadownet[ratio=0]: random filters a filter are above 0 and at most 1"),
        ("shadownet[ratio=1.5]", "above 0 and at most 1"),
        ("shadownet[seed=-3]", "a seed is a whole number from 0"),
    ],
)
def test_parameters_out_of_range_are_refused_with_the_range(text, message):
    refused(text, message)


def test_work_in_the_tee_is_counted_as_its_kernels_do_it():
    graph = victim_of("alexnet").graph
    magnitude, shadownet, soter = map(deployed, TAKE_LAYERS_APART[:1] + ("shadownet[ratio=0.5]", "soter"))
    whole = graph_macs(graph)
    macs = [[sum(map(graph_macs, part)) for part in (d.hidden, d.public)] for d in (magnitude, shadownet, soter)]
    assert macs[0] == [whole, whole]
    assert sum(macs[2]) == whole
    undo = sum(
        n * (n + round(0.5 * n)) * int(np.prod(graph.shapes[node.output][1:]))
        for node in graph.parameter_nodes()
        for n in (len(node.weights["weight"]),)
    )
    assert macs[1] == [undo, int(1.5 * whole)]


def test_more_segments_than_a_board_runs_are_refused():
    header = Path(__file__).parents[1] / "ta/runtime/lb_runtime.h"
    (limit,) = re.findall(r"#define LB_MAX_SEGMENTS (\d+)u", header.read_text())
    assert int(limit) == MAX_SEGMENTS
    shapes = {f"t{i}": (4,) for i in range(MAX_SEGMENTS + 2)}
    nodes = tuple(Node(f"n{i}", Op.RELU, (f"t{i}",), f"t{i + 1}", "relu") for i in range(MAX_SEGMENTS + 1))
    graph = Graph(("t0",), (f"t{MAX_SEGMENTS + 1}",), nodes, shapes)
    segments = [Segment((World.TEE, World.REE)[i % 2], subgraph(graph, [node])) for i, node in enumerate(nodes)]
    with pytest.raises(GraphError, match="257 segments, one a change of world, and boards run at most 256"):
        Deployment(tuple(segments), OutputPolicy.parse("probs"))
