"""What attacks on training see: steps that a board ran for them, equal to PyTorch's gradients, and nothing hidden."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from device.board import BoardError
from device.training import TrainOptions
from suite import Attack, Goal, Guess, LabelledImages, Victim, View, World, attack
from suite.attack_model import ReferenceModel
from suite.attacking import run_attack, show
from suite.deploying import deploy, lay, trained_victim, untrained_victim
from suite.evaluating import evaluate
from suite.graph.export import export_graph
from suite.graph.per_sample import SIGNALS
from suite.graph.training import place_dropouts
from suite.layer_reading import _read_in_training
from suite.open_layers import exposed_in
from suite.registry import Kind, PluginError
from suite.session import unmet
from suite.spec import parse
from suite.view import AdversaryView, ViewError

NEEDS = frozenset({View.GRADIENTS, View.WEIGHTS})
CLOSE = 1e-4
SOME = 40
"""Candidates that a test's attack looks at."""


def spec(text, kind=Kind.DEFENSE):
    (found,) = parse(kind, text)
    return found


@pytest.fixture
def looking(small_run):
    """An open view of a deployment of the trained AlexNet, and what the board's session knows besides."""
    sessions = []

    def look(text, needs=NEEDS):
        defense = spec(text)
        laid = lay(small_run.store, defense, small_run.job)
        evaluation = evaluate(small_run.store, laid, defense, small_run.job, small_run.board)
        shown = show(
            small_run.store, laid, evaluation, small_run.job, spec("loss_threshold", Kind.ATTACK), small_run.board
        )
        sessions.append(small_run.board.open(laid.files))
        return AdversaryView(shown, frozenset(needs), sessions[-1])

    yield look
    for session in sessions:
        session.close()


def gradients_of(module, images, labels):
    """Of the mean loss with respect to the weights of convolutions and linear layers, in order."""
    module.zero_grad()
    nn.functional.cross_entropy(module(torch.tensor(images)), torch.tensor(labels)).backward()
    return [m.weight.grad.numpy().copy() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(("text", "public"), [("vanilla", 6), ("darknetz[k=1,finetune=true]", 5)])
def test_the_gradients_of_each_candidate_are_pytorch_s(small_run, looking, text, public):
    view = looking(text)
    module = trained_victim(small_run.store, small_run.job).module
    candidates = view.candidates
    for i, step in zip(range(4), view.gradients(), strict=False):
        wanted = gradients_of(module, candidates.images[i : i + 1], candidates.labels[i : i + 1])
        found = [array for (_, _, key), array in step.public.items() if key == "weight"]
        assert len(found) == public
        for ours, theirs in zip(found, wanted, strict=False):
            np.testing.assert_allclose(ours, theirs, atol=CLOSE * max(1.0, np.abs(theirs).max()))
        for (segment, node, key), array in step.public.items():
            assert view.public[segment].nodes[node].weights[key].shape == array.shape


def test_a_batch_shows_each_image_s_signal_and_the_mean_of_the_gradients(looking):
    view = looking("darknetz[k=1,finetune=true]")
    some = LabelledImages(view.candidates.images[:5], view.candidates.labels[:5])
    alone = list(view.gradients(some))
    together = view.train(TrainOptions(0.1)).step(some.images, some.labels)
    for name, array in together.boundary.items():
        np.testing.assert_allclose(array, np.concatenate([step.boundary[name] for step in alone]), atol=1e-6)
        np.testing.assert_allclose(
            together.crossed[name], np.concatenate([step.crossed[name] for step in alone]), atol=1e-6
        )
    for name, array in together.public.items():
        np.testing.assert_allclose(array, np.mean([step.public[name] for step in alone], axis=0), atol=1e-5)


def test_the_victim_s_dropouts_go_with_the_deployment():
    """Where they are hidden, they are in the sealed part: the attacker cannot leave them out."""
    layers = [nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 8), nn.Dropout(0.5)]
    module = nn.Sequential(*layers, nn.Linear(8, 3)).eval()
    nobody = LabelledImages(np.empty((0, 1, 8, 8), np.float32), np.empty(0, np.int64))
    victim = Victim("mlp", (1, 8, 8), 3, module, export_graph(module, (1, 8, 8), softmax=True), nobody, nobody)
    deployment = deploy(spec("darknetz[k=2,finetune=true]"), victim)
    assert sorted(deployment.training.dropouts.values()) == [0.25, 0.5]
    placed = {world: place_dropouts(deployment.segments, world, deployment.training.dropouts) for world in World}
    assert placed == {World.REE: ((1, 0.25),), World.TEE: ((0, 0.5),)}
    assert deploy(spec("darknetz[k=2]"), victim).training is None


def test_steps_change_weights_only_where_they_update_and_only_in_this_session(looking):
    views = [looking("darknetz[k=1,output=probs,finetune=true]", NEEDS | {View.QUERY}) for _ in range(2)]
    images, labels = views[0].candidates.images[:20], views[0].candidates.labels[:20]
    before = views[0].query(images)
    training = views[0].train(TrainOptions(0.05))
    training.step(images, labels)
    np.testing.assert_array_equal(views[0].query(images), before)
    training.step(images, labels, update=True)
    assert not np.array_equal(views[0].query(images), before)
    np.testing.assert_array_equal(views[1].query(images), before)


def test_the_view_is_asked_within_a_session(small_run, looking):
    view = looking("vanilla")
    over = AdversaryView(view._shown, NEEDS)
    with pytest.raises(ViewError, match="session is over"):
        over.train(TrainOptions(0.1))
    with pytest.raises(ViewError, match=r"did not declare 'gradients': add View.GRADIENTS"):
        looking("vanilla", {View.OUTPUT}).gradients()
    with pytest.raises(ViewError, match="does not show 'gradients'"):
        looking("darknetz[k=1]").gradients()
    with pytest.raises(BoardError, match="owner does not allow training"):  # and the TA does not take part
        looking("darknetz[k=1]")._session.train(TrainOptions(0.1))


@pytest.mark.usefixtures("scratch_registry")
class TestAttacks:
    """Attacks over gradients, run as the suite runs them."""

    @pytest.fixture
    def norms(self):
        @attack("norms", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.GRADIENTS})
        class Norms(Attack):
            """The norm of the public gradients (Nasr et al. 2019): members' are small."""

            def observe(self, view):
                some = LabelledImages(view.candidates.images[:SOME], view.candidates.labels[:SOME])
                norms = np.zeros(len(view.candidates))
                for i, step in enumerate(view.gradients(some)):
                    norms[i] = sum(float((g**2).sum()) for g in step.public.values()) ** 0.5
                return dataclasses.replace(view.observation(), extra={"norms": norms})

            def infer(self, observation):
                return Guess(-observation.extra["norms"].astype(np.float64), threshold=-1.0)

        return spec("norms", Kind.ATTACK)

    def test_one_that_needs_gradients_gets_a_number_for_each_candidate(self, small_run, norms):
        defense = spec("darknetz[k=2,finetune=true]")
        laid = lay(small_run.store, defense, small_run.job)
        _, outcome = run_attack(small_run.store, norms, laid, defense, small_run.job, small_run.board)
        assert len(outcome.scores) == len(small_run.job.material().candidates)
        assert len(np.unique(outcome.scores[:SOME])) > SOME / 2
        assert not outcome.scores[SOME:].any()

    def test_without_a_threshold_of_its_own_it_is_told_why(self, small_run):
        @attack("vague", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.GRADIENTS})
        class Vague(Attack):
            """Original: looks at nothing."""

            def infer(self, observation):
                return Guess(np.arange(len(observation.labels), dtype=np.float64))

        defense = spec("darknetz[k=2,finetune=true]")
        laid = lay(small_run.store, defense, small_run.job)
        with pytest.raises(PluginError, match="needs gradients, which shadow models do not show"):
            run_attack(small_run.store, spec("vague", Kind.ATTACK), laid, defense, small_run.job, small_run.board)

    @pytest.mark.parametrize(
        ("text", "hidden"),
        [
            ("vanilla", ""),
            ("darknetz[k=2,finetune=true]", ""),
            ("darknetz[k=2]", "gradients"),
            ("full_tee", "gradients"),
        ],
    )
    def test_where_gradients_stay_hidden_its_cells_are_left_out(self, norms, text, hidden):
        class Cell:
            attack = norms

        for defense in parse(Kind.DEFENSE, text):
            deployment = deploy(defense, untrained_victim("alexnet", (1, 8, 8), 10))
            assert unmet(Cell, deployment.shows) == hidden


@pytest.mark.parametrize("text", ["darknetz[k=2,finetune=true]", "darknetz[start=3,end=3,output=probs,finetune=true]"])
def test_a_device_that_trains_shows_open_layers_as_its_model_itself_would(small_run, looking, text):
    view = looking(text, {View.GRADIENTS, View.WEIGHTS, View.BOUNDARY, View.QUERY})
    module = trained_victim(small_run.store, small_run.job).module
    model = ReferenceModel(lambda: module, np.zeros(len(view.candidates), bool))
    template = export_graph(module, view.input_shape, softmax=True)
    reading = _read_in_training(view, (model,), template, exposed_in(template, view.steps))
    open_layers = 4 if "k=2" in text else 2
    assert reading.own.shape == (len(view.candidates), open_layers * len(SIGNALS))
    # Gradients just above the floor have few digits left, and shares of active units jump where a sum is nearly 0.
    assert np.mean(np.abs(reading.own - reading.others[0]) < 0.05) > 0.97
    assert np.corrcoef(reading.own.ravel(), reading.others[0].ravel())[0, 1] > 0.999


def test_without_gradients_nothing_is_read_in_training(looking):
    view = looking("darknetz[k=2]", {View.WEIGHTS, View.BOUNDARY, View.QUERY})
    template = export_graph(
        untrained_victim("alexnet", view.input_shape, view.n_classes).module, view.input_shape, softmax=True
    )
    assert _read_in_training(view, (), template, exposed_in(template, view.steps)) is None


def test_where_the_tee_is_too_small_to_train_nothing_is_read_in_training(looking):
    view = looking("darknetz[k=4,finetune=true]", {View.GRADIENTS, View.WEIGHTS, View.BOUNDARY, View.QUERY})
    template = export_graph(
        untrained_victim("alexnet", view.input_shape, view.n_classes).module, view.input_shape, softmax=True
    )
    assert _read_in_training(view, (), template, exposed_in(template, view.steps)) is None
