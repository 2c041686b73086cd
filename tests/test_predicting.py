"""The Performance Emulator's contract: what is counted, and that a prediction is the sum of its parts."""

import dataclasses

import numpy as np
import pytest

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from suite import OutputPolicy, World, split
from suite.deploying import untrained_victim
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.fuse import fuse
from suite.graph.macs import graph_macs
from suite.graph.planner import plan_memory
from suite.graph.quantize import calibrate, quantize
from suite.microbench import plan
from suite.predicting import FEATURES, LinearModel, PredictionError, board_model, features
from suite.registry import discover
from suite.workload import work

discover()

WINDOWS = {
    "conv2d 64x1x1 to 64x1x1 pad_h=1 pad_w=1 groups=1",
    "conv2d 64x2x2 to 64x2x2 pad_h=1 pad_w=1 groups=1",
}


def cut(architecture, k):
    """The last k layers with weights in the TEE."""
    graph = untrained_victim(architecture, (1, 28, 28), 10).graph
    at = graph.nodes.index(graph.parameter_nodes()[-k]) if k else len(graph.nodes)
    return graph, split(graph, in_tee={node.name for node in graph.nodes[at:]})


@pytest.mark.parametrize("architecture", ["vgg7", "resnet20"])
def test_every_kernel_call_is_counted_once_in_its_world(architecture):
    graph, segments = cut(architecture, 3)
    found = features(segments)
    assert set(found) == set(FEATURES)
    for world in World:
        assert found[f"{world}.calls"] == sum(len(fuse(s.graph)) for s in segments if s.world is world) > 0
    # Multiply-adds of 4 lanes: at least a quarter of what a network multiplies, less what meets padding alone.
    fma = sum(found[f"{world}.conv2d.fma"] for world in World)
    linear = sum(found[f"{world}.linear.macs"] for world in World)
    assert 0.8 < (4 * fma + linear) / graph_macs(graph) < 1.2
    assert found["switches"] == found["ree.handovers"] == found["tee.handovers"] == 1
    inside = segments[-1].graph
    assert found["crossing.bytes"] == sum(inside.bytes_of(t) for t in (*inside.inputs, *inside.outputs))


def test_int8_is_counted_apart():
    graph = untrained_victim("vgg7", (1, 28, 28), 10).graph
    image = np.zeros((1, *graph.shapes[graph.inputs[0]]), np.float32)
    found = features(split(quantize(graph, calibrate(graph, image, 100.0)), in_tee=()))
    assert found["ree.int8.dots"] > 0
    assert found["ree.int8.linear.dots"] > 0
    assert found["ree.conv2d.fma"] == found["ree.linear.macs"] == 0


def test_what_meets_padding_alone_costs_nothing():
    # A 3x3 window on a 1x1 map meets it with one of its nine taps.
    found = {(one.graph.shapes["image"]): work(one.graph, one.graph.nodes[0]) for one in plan() if one.name in WINDOWS}
    assert len(found) == len(WINDOWS)
    assert found[64, 1, 1]["conv2d.fma"] == 64 * 64 / 4
    assert found[64, 2, 2]["conv2d.fma"] == 9 * 4 * 64 * 64 / 4


def test_a_prediction_is_the_sum_of_its_parts_and_plans_the_memory():
    graph, segments = cut("vgg7", 2)
    found = board_model("qemu").predict(segments)
    assert found.total_us == pytest.approx(found.ree_us + found.tee_us + found.switch_us)
    assert min(found.ree_us, found.tee_us, found.switch_us) > 0
    assert found.memory == plan_memory(segments)
    alone = board_model("qemu").predict(split(graph, in_tee=()))
    assert (alone.tee_us, alone.switch_us, alone.switches, alone.memory.peak_bytes) == (0, 0, 0, 0)
    assert alone.ree_us == alone.total_us > found.ree_us


def test_predictions_add_up():
    graph, segments = cut("vgg7", 2)
    model = LinearModel("x", "measured", {name: 1.0 + i for i, name in enumerate(FEATURES)})
    counts = features(segments)
    expected = sum((1.0 + i) * counts[name] for i, name in enumerate(FEATURES))
    found = model.predict(segments)
    assert found.total_us == pytest.approx(expected)
    doubled = LinearModel("y", "measured", {name: 2 * cost for name, cost in model.costs_us.items()}).predict(segments)
    assert doubled.total_us == pytest.approx(2 * found.total_us)


def test_costs_that_leave_a_feature_out_are_refused():
    whole = board_model("qemu")
    for name in FEATURES:
        with pytest.raises(PredictionError, match=f"one cost for each feature; see '{name}'"):
            LinearModel("x", "measured", {key: cost for key, cost in whole.costs_us.items() if key != name})
    with pytest.raises(PredictionError, match="cost of 'switches' is -1"):
        dataclasses.replace(whole, costs_us={**whole.costs_us, "switches": -1})
    with pytest.raises(PredictionError, match="no costs of board 'quemu'.*qemu"):
        board_model("quemu")


@pytest.mark.parametrize("case", [one for one in plan() if one.group == "streamed"], ids=lambda case: case.name)
def test_calls_that_bring_slices_are_those_that_the_agent_makes(case, tmp_path):
    segments = case.segments()
    files = DeploymentFiles(tmp_path / "public", tmp_path / "sealed", tmp_path / "slices")
    files.public.write_bytes(pack_public(segments, OutputPolicy.parse("probs"), bytes(16)))
    files.sealed.write_bytes(pack_sealed(segments, OutputPolicy.parse("probs"), bytes(16)))
    files.slices.write_bytes(b"".join(pack_slices(segments)))
    found = features(segments)
    with EmulatedBoard(64 << 20).open(files) as session:
        session.infer(case.image()[None])
        stats = session.stats()
    assert stats.switches_per_query == found["switches"] == 1 + found["tee.slices.fed"]
    inputs = sum(s.graph.bytes_of(t) for s in segments if s.world is World.TEE for t in s.graph.inputs)
    assert stats.bytes_to_tee == inputs + found["tee.slices.bytes"]
