"""Where the defenses cut, for every architecture, and that a deployment computes what the model computes."""

import functools

import numpy as np
import pytest

from device.board import DeploymentFiles
from device.emulated import EmulatedBoard
from suite import Defense, Deployment, LearnedDefense, OutputPolicy, View, World, defense, split
from suite.deploying import deploy, untrained_victim
from suite.graph.format import pack_public, pack_sealed
from suite.graph.ir import GraphError, Op
from suite.graph.reference import run_graph
from suite.policy import PolicyKind
from suite.registry import REGISTRY, Kind, PluginError, discover
from suite.spec import default_specs, parse

discover()
ARCHITECTURES = [plugin.name for plugin in REGISTRY.all(Kind.VICTIM) if not plugin.cost_only]
SHAPE, CLASSES = (1, 28, 28), 10
UNLEARNED = [
    one
    for one in default_specs(Kind.DEFENSE)
    if not issubclass(one.plugin.cls, LearnedDefense)
    and one.plugin.cls.max_accuracy_loss_frac <= Defense.max_accuracy_loss_frac
]
"""What keeps a model's answers; a defense that learns or rounds makes answers of its own."""


def deployed(text, architecture, shape=SHAPE, classes=CLASSES):
    victim = untrained_victim(architecture, shape, classes)
    (spec,) = parse(Kind.DEFENSE, text)
    return victim, deploy(spec, victim)


def names(graphs):
    return [node.name for graph in graphs for node in graph.nodes]


def depth(architecture):
    return len(untrained_victim(architecture, SHAPE, CLASSES).graph.parameter_nodes())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_darknetz_hides_exactly_the_last_k_layers_and_what_follows(architecture):
    layers = untrained_victim(architecture, SHAPE, CLASSES).graph.parameter_nodes()
    for k in range(1, len(layers) + 1):
        victim, deployment = deployed(f"darknetz[k={k}]", architecture)
        hidden, public = names(deployment.hidden), names(deployment.public)
        everything = [node.name for node in victim.graph.nodes]
        assert sorted(hidden + public) == sorted(everything)
        assert [name for name in hidden if name in {n.name for n in layers}] == [n.name for n in layers[-k:]]
        first = everything.index(layers[-k].name)
        assert hidden == everything[first:]  # all between and after them, the softmax among it
        assert victim.graph.nodes[-1].op is Op.SOFTMAX
        assert public == everything[:first]
        assert deployment.policy.kind is PolicyKind.LABEL
        assert deployment.segments[-1].world is World.TEE
        assert len(deployment.segments) == (2 if public else 1)  # one switch there and back


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("k", [0, -1, 1000])
def test_a_k_that_does_not_fit_is_refused_with_the_range(architecture, k):
    n = depth(architecture)
    with pytest.raises(PluginError) as caught:
        deployed(f"darknetz[k={k}]", architecture)
    assert str(caught.value) == f"darknetz[k={k}]: {architecture} has {n} layers with parameters, so k is 1 to {n}"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_bounds_hide_all_and_nothing(architecture):
    victim, black = deployed("full_tee[output=probs]", architecture)
    assert black.public == ()
    assert sorted(names(black.hidden)) == sorted(node.name for node in victim.graph.nodes)
    assert black.shows == {View.OUTPUT, View.QUERY, View.AUXILIARY}
    _, white = deployed("vanilla", architecture)
    assert white.hidden == ()
    assert white.shows == {View.OUTPUT, View.QUERY, View.AUXILIARY, View.WEIGHTS, View.GRADIENTS}
    assert sorted(names(white.public)) == sorted(node.name for node in victim.graph.nodes)
    assert white.policy.kind is PolicyKind.PROBS


def test_every_output_policy_can_be_asked_for():
    for text in ("probs", "top1", "rounded2", "topk3"):
        for name in ("full_tee", "darknetz"):
            k = "k=1," if name == "darknetz" else ""
            assert str(deployed(f"{name}[{k}output={text}]", "vgg7")[1].policy) == text
    with pytest.raises(PluginError, match="unknown output policy 'all': use probs, top1, rounded<decimals> or topk<k>"):
        deployed("full_tee[output=all]", "vgg7")
    with pytest.raises(PluginError, match="output policy topk11 of a model with 10 classes: use a smaller k"):
        deployed("full_tee[output=topk11]", "vgg7")


def test_a_policy_that_the_normal_world_would_enforce_is_refused():
    graph = untrained_victim("vgg7", SHAPE, CLASSES).graph
    for text in ("top1", "rounded2", "topk3"):
        with pytest.raises(GraphError, match=f"output policy {text} would be enforced by the normal world"):
            Deployment(split(graph, in_tee={graph.nodes[0].name}), OutputPolicy.parse(text))
    with pytest.raises(GraphError, match="at least one segment"):
        Deployment((), OutputPolicy.parse("probs"))


@pytest.mark.usefixtures("scratch_registry")
def test_a_defense_that_makes_no_deployment_is_named():
    @defense("lazy_one")
    class Lazy(Defense):
        def deploy(self, victim):
            return None

    @defense("chopper")
    class Chopper(Defense):
        def deploy(self, victim):
            return Deployment(split(victim.graph, in_tee={"no such node"}), OutputPolicy.parse("probs"))

    with pytest.raises(PluginError, match=r"defense lazy_one \(.*test_defenses.py:\d+\): deploy\(\) returned NoneType"):
        deployed("lazy_one", "vgg7")
    with pytest.raises(
        PluginError, match=r"defense chopper on vgg7 \(.*\): no node 'no such node' to place in the TEE"
    ):
        deployed("chopper", "vgg7")


@functools.cache
def board():
    return EmulatedBoard(64 << 20)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("spec", UNLEARNED, ids=lambda spec: spec.slug)
def test_the_board_answers_what_the_model_answers(architecture, spec, tmp_path):
    """So accuracy through a deployment is the model's own: nothing but the policy changes an answer."""
    victim = untrained_victim(architecture, SHAPE, CLASSES)
    deployment = deploy(spec, victim)
    files = DeploymentFiles(tmp_path / "public.lbm", tmp_path / "sealed.lbm" if deployment.hidden else None)
    files.public.write_bytes(pack_public(deployment.segments, deployment.policy, bytes(16)))
    if files.sealed:
        files.sealed.write_bytes(pack_sealed(deployment.segments, deployment.policy, bytes(16)))
    images = np.random.default_rng(0).standard_normal((12, *SHAPE)).astype(np.float32)
    whole = run_graph(victim.graph, {victim.graph.inputs[0]: images})[victim.graph.outputs[0]]
    with board().open(files) as session:
        outputs = session.infer(images).outputs
    labels = outputs if outputs.ndim == 1 else outputs.argmax(axis=1)
    best_two = np.sort(whole, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 1e-4
    assert clear.sum() >= 6
    assert (labels == whole.argmax(axis=1))[clear].all()
    if not deployment.policy.label_only:
        np.testing.assert_allclose(outputs, deployment.policy.apply(whole), rtol=1e-3, atol=1e-6)
