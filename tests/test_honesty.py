"""Does the harness measure leakage? A planted leak is found, where there is none none is, and nobody sees the truth.

Everything here goes the real way: trained models, files, the C board, the attacks of the tree.
"""

import dataclasses

import numpy as np
import pytest
import torch

from suite import Defense, Deployment, OutputPolicy, View, attacking, defense, deploying, models, split
from suite.evaluating import evaluate
from suite.graph.export import export_graph
from suite.leakcheck import _reachable
from suite.matrix import Cell
from suite.metrics import auc
from suite.registry import Kind, discover
from suite.run import Bench, run_attack_cell
from suite.spec import parse
from suite.view import AdversaryView

discover()
ATTACKS = ("loss_threshold", "shadow[]")


def one(kind, text):
    (spec,) = parse(kind, text)
    return spec


def cell(run, defense_text, attack_text):
    return Cell(
        one(Kind.VICTIM, run.job.architecture), run.job.dataset, one(Kind.DEFENSE, defense_text),
        one(Kind.ATTACK, attack_text), "emulated", run.job.profile, run.job.seed,
    )  # fmt: skip


def bench(run):
    return Bench(run.store, run.board, run.results, workers=1)


# ---- a planted leak


class _Memory(torch.nn.Module):
    """Certain of the right class for the images it was given, uniform over the classes for all others.

    An image is projected to 16 numbers; one unit for each known image fires when all of them are near its own.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, n_classes: int) -> None:
        super().__init__()
        flat, size = images.flatten(1), 16
        draw = torch.randn(size, flat.shape[1], generator=torch.Generator().manual_seed(0)) / flat.shape[1] ** 0.5
        known = (flat @ draw.T).flatten()
        n = len(labels)
        layers = [torch.nn.Linear(flat.shape[1], size), torch.nn.Linear(size, 2 * n * size)]
        layers += [torch.nn.Linear(2 * n * size, n), torch.nn.Linear(n, n_classes)]
        near = 0.05 * float((flat @ draw.T).std(0).sum())
        unit = torch.eye(size).repeat(n, 1)
        distance = -torch.eye(n).repeat_interleave(size, 1) / near
        weights = [draw, torch.cat([unit, -unit]), torch.cat([distance, distance], 1)]
        biases = [torch.zeros(size), torch.cat([-known, known]), torch.ones(n)]
        weights.append(30 * torch.nn.functional.one_hot(labels, n_classes).T.float())
        biases.append(torch.zeros(n_classes))
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            layer.weight.data, layer.bias.data = weight.contiguous(), bias
        relu = torch.nn.ReLU()
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), layers[0], layers[1], relu, layers[2], relu, layers[3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.fixture
def leaky(scratch_registry):
    @defense("gossip")
    class Gossip(Defense):
        """Everything hidden, and every member told apart."""

        max_accuracy_loss_frac = 1.0
        output: str = "probs"

        def deploy(self, victim):
            members = victim.members
            memory = _Memory(torch.tensor(members.images), torch.tensor(members.labels), victim.n_classes)
            graph = export_graph(memory.eval(), victim.input_shape, softmax=True)
            return Deployment(split(graph, in_tee={node.name for node in graph.nodes}), OutputPolicy.parse(self.output))


@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize("text", ATTACKS)
def test_a_planted_leak_is_found(small_run, text):
    record = run_attack_cell(cell(small_run, "gossip[]", text), bench(small_run))
    found = record.attack.metrics
    assert found.auc.value > 0.9
    assert found.auc.low > 0.85
    honest = run_attack_cell(cell(small_run, "full_tee[output=probs]", text), bench(small_run))
    assert honest.attack.metrics.auc.value < found.auc.value - 0.1


@pytest.mark.usefixtures("leaky")
def test_a_planted_leak_shows_through_labels_too(small_run):
    """Gossip answers the first class for everyone it does not know."""
    record = run_attack_cell(cell(small_run, "gossip[output=top1]", "loss_threshold"), bench(small_run))
    assert record.attack.metrics.auc.value > 0.9


def test_an_overfitted_victim_leaks_and_less_through_labels(small_run):
    """Ordinary overfitting (93 % on members, 86 % on others) is seen by both attacks."""
    for text in ATTACKS:
        found = run_attack_cell(cell(small_run, "vanilla", text), bench(small_run)).attack.metrics.auc
        assert 0.51 < found.value < 0.75


# ---- nothing to find


@pytest.mark.parametrize("policy", ["probs", "top1"])
@pytest.mark.parametrize("text", ATTACKS)
def test_data_that_no_model_saw_gives_a_coin(small_run, text, policy):
    """Halves of unseen images, at random: 20 intervals of 95 % hold 0.5 but for one or two."""
    (laid, evaluation, shown) = look(small_run, text, f"full_tee[output={policy}]")
    material = small_run.job.material()
    attack = one(Kind.ATTACK, text).make()
    seen = AdversaryView(shown, attack.needs).observation()
    unseen = dataclasses.replace(seen, outputs=evaluation.test, labels=material.test.labels)
    scores = attack.infer(unseen).scores
    found = []
    for seed in range(20):
        halves = np.random.default_rng(seed).permutation(np.arange(len(scores)) % 2 == 0)
        found.append(auc(scores, halves))
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 17
    assert abs(np.mean([one.value for one in found]) - 0.5) < 0.03


def test_members_against_members_give_a_coin_as_well(small_run):
    _, _, shown = look(small_run, "loss_threshold", "full_tee[output=probs]")
    attack = one(Kind.ATTACK, "loss_threshold").make()
    scores = attack.infer(AdversaryView(shown, attack.needs).observation()).scores[small_run.job.material().is_member]
    halves = np.random.default_rng(0).permutation(np.arange(len(scores)) % 2 == 0)
    found = auc(scores, halves)
    assert found.low <= 0.5 <= found.high


# ---- nobody sees the truth


def look(run, attack_text, defense_text):
    """Deployment, answers, and all that an attacker gets."""
    spec = one(Kind.DEFENSE, defense_text)
    laid = deploying.lay(run.store, spec, run.job)
    evaluation = evaluate(run.store, laid, spec, run.job, run.board)
    return (
        laid,
        evaluation,
        attacking.show(run.store, laid, evaluation, run.job, one(Kind.ATTACK, attack_text), run.board),
    )


@pytest.mark.parametrize("text", ATTACKS)
def test_a_guess_does_not_change_with_the_truth(small_run, text, monkeypatch):
    attack = one(Kind.ATTACK, text).make()

    def guess():
        return attack.infer(attack.observe(AdversaryView(look(small_run, text, "vanilla")[2], attack.needs))).scores

    before = guess()
    real = models.prepare

    def permuted(*arguments):
        material = real(*arguments)
        draw = np.random.default_rng(5)
        return dataclasses.replace(
            material,
            is_member=draw.permutation(material.is_member),
            candidate_ids=draw.permutation(material.candidate_ids),
        )

    monkeypatch.setattr(models, "prepare", permuted)
    assert not np.array_equal(small_run.job.material().is_member, real("digits", 0, small_run.job.profile).is_member)
    np.testing.assert_array_equal(guess(), before)


def test_the_truth_cannot_be_reached_from_a_view(small_run):
    material = small_run.job.material()
    truth, ids = material.is_member, material.candidate_ids
    _, _, shown = look(small_run, "shadow[]", "darknetz[k=2]")
    for what, where in _reachable(AdversaryView(shown, frozenset(View))):
        assert what is not material, where
        if isinstance(what, np.ndarray) and what.shape[:1] == truth.shape:
            flat = what.reshape(len(truth), -1)[:, 0]
            for other in (truth, ~truth, ids):
                assert not np.array_equal(flat.astype(np.float64), other.astype(np.float64)), where


def test_candidates_auxiliary_and_shadow_data_do_not_overlap(small_run):
    """By content: no image that is scored was the attacker's, and no shadow's outsider was its insider."""
    material = small_run.job.material()

    def rows(images):
        return {image.tobytes() for image in images}

    members, outsiders = (material.candidates.images[material.is_member == flag] for flag in (True, False))
    assert rows(members) == rows(material.members.images)
    pools = [rows(members), rows(outsiders), rows(material.auxiliary.images), rows(material.test.images)]
    assert sum(map(len, pools)) == len(set.union(*pools))
    inside, outside = material.shadow_split(0, 1)
    assert not rows(material.auxiliary.images[inside]) & rows(material.auxiliary.images[outside])
    assert not np.array_equal(material.shadow_split(0, 0)[0], inside)


def test_order_of_the_candidates_says_nothing(small_run):
    truth = small_run.job.material().is_member
    found = auc(np.arange(len(truth), dtype=np.float64), truth)
    assert found.low <= 0.5 <= found.high


def test_what_an_attack_is_shown_cannot_be_written(small_run):
    """Images are shared by all cells of a run: an attack that normalises them in place is told so."""
    _, _, shown = look(small_run, "shadow[]", "vanilla")
    for array in (shown.candidates.images, shown.candidates.labels, shown.auxiliary.images):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_accuracy_through_the_board_is_the_models_own(small_run):
    material = small_run.job.material()
    model = models.load_trained(models.train_job(small_run.store, small_run.job), small_run.job)
    from victims.inference import predict

    own = float((predict(model, material.test.images).argmax(1) == material.test.labels).mean())
    for text in ("vanilla", "darknetz[k=2]", "full_tee[output=probs]", "full_tee[output=top1]"):
        _, evaluation, _ = look(small_run, "loss_threshold", text)
        assert evaluation.about["accuracy_frac"] == own, text
        assert evaluation.about["parity"]["label_agreement_frac"] == 1.0
        assert evaluation.about["parity"]["max_rel_error"] < 1e-4
