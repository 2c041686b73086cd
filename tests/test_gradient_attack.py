"""The white-box attack: its features are the gradients', and it finds what is planted, wherever layers are hidden."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.deploying import deploy, untrained_victim
from suite.graph.export import export_graph
from suite.graph.floating import as_float
from suite.graph.format import pack_public
from suite.graph.ir import GraphError
from suite.graph.parse import parse as parse_file
from suite.graph.per_sample import SIGNALS, per_sample
from suite.graph.quantize import calibrate, quantize
from suite.graph.reference import run_graph
from suite.graph.surrogate import (
    Fit,
    activations,
    fit_answers,
    head_of,
    read_out,
    rest_of,
    with_random,
    with_small_maps,
)
from suite.graph.trainable import TrainableGraph
from suite.metrics import auc
from suite.open_layers import exposed_in
from suite.registry import Kind, discover
from suite.spec import parse
from tests import planted
from tests.graph_strategies import graphs, images_for

discover()
VICTIM = 100


def plugin(text="gradient"):
    (spec,) = parse(Kind.ATTACK, text)
    return spec.make()


# ---- features


def looped(graph, image, label):
    """Loss and norms of the gradients of each node's weights, of one image, by autograd; in float64.

    In float32 a sure model's p - 1 has lost its digits before it is propagated.
    """
    model = TrainableGraph(graph).double()
    softmax = graph.nodes[-1]
    below = type(graph)(graph.inputs, softmax.inputs, graph.nodes[:-1], graph.shapes)
    model.graph = below
    logits = model({"image": torch.tensor(image).double()})[softmax.inputs[0]]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([label]))
    loss.backward()
    norms = [
        [float(model.weight(node.name, key).grad.norm()) for key in node.weights] for node in graph.parameter_nodes()
    ]
    return float(loss.detach()), np.array(norms)


@settings(deadline=None, max_examples=25)
@given(graphs(), st.integers(0, 2**16))
def test_norms_are_those_of_a_loop_over_images(graph, seed):
    images = images_for(graph, 5)["image"]
    n_classes = graph.shapes[graph.outputs[0]][0]
    labels = np.random.default_rng(seed).integers(0, n_classes, 5)
    found = per_sample(graph, {"image": images}, labels, batch=2)
    assert found.layers.shape == (5, len(graph.parameter_nodes()), len(SIGNALS))
    for i in range(5):
        loss, norms = looped(graph, images[i : i + 1], labels[i])
        assert found.loss[i] == pytest.approx(loss, rel=1e-3, abs=1e-6)
        ours = found.layers[i, :, :2] * found.scale[i]
        np.testing.assert_allclose(ours, norms, rtol=1e-3, atol=1e-5 * max(norms.max(), 1e-6))


def test_the_radial_part_is_the_gradients_product_with_the_weight():
    graph = export_graph(planted.net(VICTIM, True), planted.SHAPE, softmax=True)
    data = planted.noise(3, 4)
    found = per_sample(graph, {"image": data.images}, data.labels)
    for i in range(4):
        model = TrainableGraph(graph)
        answer = model({"image": torch.tensor(data.images[i : i + 1])})[graph.outputs[0]]
        (-answer[0, data.labels[i]].log()).backward()
        for at, node in enumerate(graph.parameter_nodes()):
            weight = model.weight(node.name, "weight")
            expected = float((weight * weight.grad).sum().detach())
            ours = found.layers[i, at, SIGNALS.index("radial")] * found.scale[i]
            assert ours == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_certain_models_gradients_do_not_vanish():
    module = planted.net(VICTIM, False)
    graph = export_graph(module, planted.SHAPE, softmax=True)
    last = graph.parameter_nodes()[-1]
    nodes = [
        node if node is not last else type(node)(
            node.name, node.op, node.inputs, node.output, node.layer, {}, {k: w * 3000 for k, w in node.weights.items()}
        )
        for node in graph.nodes
    ]  # fmt: skip
    sure = type(graph)(graph.inputs, graph.outputs, tuple(nodes), graph.shapes)
    images = planted.noise(5, 20).images
    labels = run_graph(sure, {"image": images})[sure.outputs[0]].argmax(axis=1)
    found = per_sample(sure, {"image": images}, labels)
    assert found.scale.min() < 1e-30
    assert np.isfinite(found.layers).all()
    assert (found.layers[..., SIGNALS.index("weight")] > 0).all()


def test_what_has_no_gradients_is_refused():
    graph = export_graph(planted.net(VICTIM, False), planted.SHAPE, softmax=True)
    data = planted.noise(0, 4)
    with pytest.raises(GraphError, match="no node 'relu' with weights"):
        per_sample(graph, {"image": data.images}, data.labels, ("relu",))
    int8 = quantize(graph, calibrate(graph, data.images, 100.0))
    with pytest.raises(GraphError, match="int8"):
        per_sample(int8, {"image": data.images}, data.labels)


def test_an_int8_graph_as_floats_answers_nearly_the_same():
    graph = export_graph(planted.net(VICTIM, True), planted.SHAPE, softmax=True)
    images = planted.noise(0).images
    int8 = quantize(graph, calibrate(graph, images, 100.0))
    again = as_float(int8)
    assert not again.scales
    ours, exact = (run_graph(g, {"image": images})[g.outputs[0]] for g in (again, int8))
    assert np.abs(ours - exact).max() < 0.1
    for node, before in zip(again.parameter_nodes(), graph.parameter_nodes(), strict=True):
        step = np.abs(before.weights["weight"]).max() / 127
        assert np.abs(node.weights["weight"] - before.weights["weight"]).max() <= step


# ---- what lies open


def laid_over(text, architecture="alexnet"):
    victim = untrained_victim(architecture, (3, 32, 32), 10)
    with torch.no_grad():
        for name, tensor in victim.module.named_parameters():
            if name.endswith("bias"):
                tensor.normal_()  # as of a trained model; untrained, they are zeros
    (spec,) = parse(Kind.DEFENSE, text)
    template = export_graph(victim.module, (3, 32, 32), softmax=True)
    made = deploy(
        spec, type(victim)("alexnet", (3, 32, 32), 10, victim.module, template, victim.members, victim.public)
    )
    steps = parse_file(pack_public(made.segments, made.policy, bytes(16))).segments
    return template, exposed_in(template, steps)


@pytest.mark.parametrize(
    ("text", "head", "answering", "n_crossing"),
    [
        ("vanilla", 6, 6, 0),
        ("full_tee[output=probs]", 0, 0, 0),
        ("darknetz[k=1]", 5, 0, 0),
        ("darknetz[k=4]", 2, 0, 0),
        ("darknetz[start=3,end=4,output=probs]", 2, 2, 1),
        ("serdab[k=2]", 0, 4, 1),
        ("soter", 0, 0, 5),
        ("magnitude", 0, 0, 5),
        ("shadownet", 0, 0, 5),
    ],
)
def test_open_layers_are_found_by_what_they_are_and_where(text, head, answering, n_crossing):
    template, exposed = laid_over(text)
    names = [node.name for node in template.parameter_nodes()]
    assert exposed.head == tuple(names[:head])
    assert exposed.answering == tuple(names[len(names) - answering :])
    assert len(exposed.crossing) in (n_crossing, n_crossing - 1)  # the first layer, if outside, reads the image
    for name in (*exposed.head, *exposed.answering):
        own = next(node for node in template.nodes if node.name == name)
        np.testing.assert_array_equal(exposed.weights[name].weights["weight"], own.weights["weight"])


def test_a_backbone_that_does_not_make_the_answer_is_trusted_up_to_what_the_tee_takes():
    template, exposed = laid_over("mirrornet")
    assert 1 <= len(exposed.head) < 6
    assert exposed.answering == ()


# ---- surrogates


@pytest.mark.parametrize("kind", ["linear", "same"])
def test_a_surrogate_answers_as_the_hidden_layers_do(kind):
    graph = export_graph(planted.net(VICTIM, True), planted.SHAPE, softmax=True)
    layers = tuple(node.name for node in graph.parameter_nodes()[:2])
    data = planted.noise(0)
    answers = run_graph(graph, {"image": data.images})[graph.outputs[0]]
    head = head_of(graph, layers)
    if kind == "linear":
        head = with_small_maps(head)
        held = activations(head, data.images)
        rest, trained = read_out(held, planted.CLASSES)
    else:
        held = activations(head, data.images)
        rest = rest_of(graph, head)
        trained = frozenset(node.name for node in rest.parameter_nodes())
        rest = with_random(rest, trained, held, seed=0)
    fitted = fit_answers(rest, trained, held, answers, Fit(epochs=150))
    ours = run_graph(fitted, held)[fitted.outputs[0]]
    assert (ours.argmax(axis=1) == answers.argmax(axis=1)).mean() > 0.9
    again = fit_answers(rest, trained, held, answers, Fit(epochs=150))
    assert fitted.fingerprint() == again.fingerprint()


# ---- the attack


HIDDEN = {"nothing": (), "tail": (3,), "two": (2, 3), "head": (0,), "middle": (1, 2), "all": (0, 1, 2, 3)}


@pytest.mark.parametrize(
    ("hidden", "tail"), [*((name, "linear") for name in HIDDEN), ("tail", "same"), ("two", "same"), ("middle", "same")]
)
def test_who_knows_by_heart_is_found(hidden, tail):
    attack = plugin(f"gradient[tail={tail}]")
    laid = planted.deployment(planted.net(VICTIM, True), HIDDEN[hidden])
    guess = attack.infer(attack.observe(planted.view(attack, laid, trained=True)))
    truth = planted.halves(VICTIM // 2)[0]
    assert auc(guess.scores, truth).value > 0.99
    assert ((guess.scores >= guess.threshold) == truth).mean() > 0.9


@pytest.mark.parametrize("hidden", HIDDEN)
def test_who_knows_nothing_gives_nothing_away(hidden):
    attack = plugin()
    laid = planted.deployment(planted.net(VICTIM, False), HIDDEN[hidden])
    guess = attack.infer(attack.observe(planted.view(attack, laid, trained=False)))
    found = auc(guess.scores, planted.halves(VICTIM // 2)[0])
    assert found.low - 0.03 <= 0.5 <= found.high + 0.03


@pytest.mark.parametrize("policy", ["probs", "top1", "rounded1", "topk2"])
def test_every_policy(policy):
    attack = plugin()
    laid = planted.deployment(planted.net(VICTIM, True), (2, 3), policy)
    guess = attack.infer(attack.observe(planted.view(attack, laid, trained=True)))
    assert auc(guess.scores, planted.halves(VICTIM // 2)[0]).value > 0.9


def test_hidden_layers_are_not_touched():
    attack = plugin()
    laid = planted.deployment(planted.net(VICTIM, True), (2, 3))
    other = planted.net(VICTIM + 1, False)
    with torch.no_grad():
        mixed = torch.nn.Sequential(*planted.net(VICTIM, True)[:5], *other[5:])
    replaced = planted.deployment(mixed, (2, 3))
    ours = attack.infer(attack.observe(planted.view(attack, laid, trained=True)))
    theirs = attack.infer(attack.observe(planted.view(attack, replaced, trained=True, answers=laid)))
    np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_where_nothing_is_open_answers_are_all_it_has():
    attack = plugin()
    seen = attack.observe(planted.view(attack, planted.deployment(planted.net(VICTIM, True), (0, 1, 2, 3)), True))
    assert not seen.extra
    half = attack.observe(planted.view(attack, planted.deployment(planted.net(VICTIM, True), (3,)), True))
    assert half.extra["own"].shape[0] == planted.N
    assert half.extra["others"].shape[:2] == (planted.REFERENCES, planted.N)


@pytest.mark.parametrize(
    ("text", "message"), [("gradient[tail=deep]", "linear or same"), ("gradient[models=5]", "come in pairs")]
)
def test_odd_parameters_are_refused(text, message):
    attack = plugin(text)
    with pytest.raises(ValueError, match=message):
        attack.observe(planted.view(attack, planted.deployment(planted.net(VICTIM, False), ()), False))
