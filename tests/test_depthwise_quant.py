"""The CERIAS defense: which layers it hides, what crosses, and how little accuracy int8 costs."""

import dataclasses

import numpy as np
import pytest
import torch

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from suite import World
from suite.deploying import deploy, untrained_victim
from suite.graph.export import export_graph
from suite.graph.format import pack_public, pack_sealed, pack_slices
from suite.graph.partition import merge
from suite.graph.planner import plan_memory
from suite.graph.reference import run_graph, run_segments
from suite.graph.streaming import streamed_bytes
from suite.model import LabelledImages
from suite.registry import Kind, PluginError, discover
from suite.spec import parse
from victims.inference import predict
from victims.task import build_model

discover()
torch.set_num_threads(1)
SHAPE, CLASSES = (1, 28, 28), 10


def deployed(text, architecture="vgg7", shape=SHAPE):
    (spec,) = parse(Kind.DEFENSE, text)
    return deploy(spec, untrained_victim(architecture, shape, CLASSES))


def hidden_layers(deployment):
    return [n.layer for graph in deployment.hidden for n in graph.nodes if n.has_parameters]


@pytest.mark.parametrize("architecture", ["alexnet", "resnet20", "vgg16"])
def test_by_default_everything_is_hidden_where_the_time_budget_allows_it(architecture):
    deployment = deployed("depthwise_quant[]", architecture, (3, 32, 32))
    assert deployment.public == ()
    assert plan_memory(deployment.segments).peak_bytes <= 13 * 2**20
    assert (streamed_bytes(deployment.segments) > 0) == (architecture == "vgg16")


def test_vgg16_runs_in_a_tee_of_any_size_above_its_activations():
    needed = []
    for mib in (13, 8, 3):
        deployment = deployed(f"depthwise_quant[layers=all,tee_mib={mib},slice_kib=64]", "vgg16", (3, 32, 32))
        assert plan_memory(deployment.segments).peak_bytes <= mib * 2**20
        assert sum(map(len, pack_slices(deployment.segments))) == streamed_bytes(deployment.segments)
        needed.append(streamed_bytes(deployment.segments))
    assert needed == sorted(needed)
    assert needed[-1] > 10 * 2**20
    with pytest.raises(PluginError, match=r"depthwise_quant.*: the TEE part needs .* the limit is 0.25 MiB"):
        deployed("depthwise_quant[layers=all,tee_mib=0.25]", "vgg16", (3, 32, 32))


def test_a_smaller_time_budget_hides_the_last_layers():
    every = hidden_layers(deployed("depthwise_quant[layers=all]"))
    some = hidden_layers(deployed("depthwise_quant[layers=auto,time_budget=0.1]"))
    assert some == every[-1:]


def test_a_range_hides_its_layers_and_int8_crosses(tmp_path):
    deployment = deployed("depthwise_quant[layers=2-3,output=probs]")
    names = hidden_layers(deployed("depthwise_quant[layers=all]"))
    assert hidden_layers(deployment) == names[1:3]
    (inside,) = [s.graph for s in deployment.segments if s.world is World.TEE]
    assert all(t in inside.scales for t in (*inside.inputs, *inside.outputs))
    files = DeploymentFiles(tmp_path / "public.lbm", tmp_path / "sealed.lbm")
    files.public.write_bytes(pack_public(deployment.segments, deployment.policy, bytes(16)))
    files.sealed.write_bytes(pack_sealed(deployment.segments, deployment.policy, bytes(16)))
    images = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)
    with EmulatedBoard(64 << 20).open(files) as session:
        answer = session.infer(images, boundary=True)
        crossed = session.stats()
    want = run_segments(deployment.segments, {deployment.segments[0].graph.inputs[0]: images})
    np.testing.assert_allclose(answer.outputs, want[merge(deployment.segments).outputs[0]], rtol=1e-5, atol=1e-7)
    for name, tensors in (("in0", inside.inputs), ("out0", inside.outputs)):
        expected = want[tensors[0]].astype(np.float32) * np.float32(inside.scales[tensors[0]])
        np.testing.assert_array_equal(answer.boundary[f"step1.{name}"], expected)
    assert crossed.bytes_to_tee == np.prod(inside.shapes[inside.inputs[0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers=0-2", r"vgg7 has 8 layers with parameters; write auto, all, or a range within 1-8"),
        ("layers=3-9", "a range within 1-8"),
        ("layers=some", "a range within 1-8"),
        ("layers=2-3", "write output=probs, or end the range with 8"),
        ("time_budget=-1", "time_budget is at least 0"),
        ("tee_mib=-1", "tee_mib is at least 0"),
        ("slice_kib=0", "slice_kib is at least 1"),
        ("calibration=20", "a percentile of magnitudes, 50 to 100"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(text, message):
    with pytest.raises(PluginError, match=message):
        deployed(f"depthwise_quant[{text}]")


def test_int8_costs_at_most_a_point_of_accuracy_on_digits():
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = torch.nn.functional.interpolate(torch.tensor(data.images / 8 - 1, dtype=torch.float32)[:, None], 28)
    labels = torch.tensor(data.target)
    torch.manual_seed(0)
    model = build_model("vgg7", SHAPE, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for first in [*range(0, 800, 32)] * 4:
        loss = torch.nn.functional.cross_entropy(model(images[first : first + 32]), labels[first : first + 32])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bare = untrained_victim("vgg7", SHAPE, CLASSES)
    graph = export_graph(model.eval(), SHAPE, softmax=True)
    members = LabelledImages(images[:800].numpy(), labels[:800].numpy())
    victim = dataclasses.replace(bare, module=model, graph=graph, members=members)
    (spec,) = parse(Kind.DEFENSE, "depthwise_quant[layers=all]")
    int8 = merge(deploy(spec, victim).segments)
    others, truth = images[800:].numpy(), labels[800:].numpy()
    before = float((predict(model, others).argmax(1) == truth).mean())
    after = float((run_graph(int8, {int8.inputs[0]: others})[int8.outputs[0]].argmax(1) == truth).mean())
    assert before > 0.75
    assert after >= before - 0.01
