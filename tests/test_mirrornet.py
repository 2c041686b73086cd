"""MirrorNet: where branches read, what they cost, which one is chosen, and what its training brings."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defenses.mirror.branch import mirrored
from defenses.mirror.choosing import Budget, Costed, affordable, best, costs, pareto_front
from defenses.mirror.reading import backbone_of
from defenses.mirror.strategy import Strategy, strategies
from defenses.mirror.training import Settings, train_mirror
from defenses.mirrornet import MirrorNet
from suite import World, deploying, split
from suite.evaluating import evaluate
from suite.graph.reference import run_graph
from suite.graph.trainable import with_weights
from suite.learning import learn_job_of
from suite.matrix import LATENCY, Cell
from suite.models import TrainJob
from suite.predicting import board_model
from suite.registry import Kind, PluginError, discover
from suite.run import Bench, run_latency_cell
from suite.spec import parse

discover()
ARCHITECTURES = ("vgg7", "alexnet", "vgg11", "resnet20")


def backbone(architecture, shape=(1, 28, 28)):
    victim = deploying.untrained_victim(architecture, shape, 10)
    return backbone_of(architecture, victim.graph)


@functools.cache
def costs_of(architecture):
    """Every strategy for CIFAR-10 with its cost on the qemu board."""
    return costs(backbone(architecture, (3, 32, 32)), board_model("qemu"))


def spec(text="mirrornet[]"):
    (found,) = parse(Kind.DEFENSE, text)
    return found


# ---- strategies


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_branch_reads_only_what_all_later_layers_depend_on(architecture):
    found = backbone(architecture)
    nodes = found.graph.nodes
    for tap in found.readable:
        at = next(i for i, node in enumerate(nodes) if node.output == tap)
        before, after = {n.name for n in nodes[: at + 1]}, nodes[at + 1 :]
        (first, second) = split(found.graph, in_tee={node.name for node in after})
        assert {node.name for node in first.graph.nodes} == before
        assert second.graph.inputs == (tap,)
        assert len([n for n in after if n.has_parameters]) >= 2
        assert len(found.graph.shapes[tap]) == 3
    sizes = [found.graph.shapes[tap][1:] for tap in found.stages]
    assert len(set(sizes)) == len(sizes) >= 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_strategy_is_one_call_one_way(architecture):
    found = backbone(architecture)
    every = list(strategies(found))
    assert len(set(every)) == len(every) > 20
    for strategy in every[:: len(every) // 8]:
        assert 2 <= len(strategy.taps) <= 3
        whole = mirrored(found, strategy, seed=0)
        public, hidden = split(whole.graph, in_tee=whole.hidden)
        assert (public.world, hidden.world) == (World.REE, World.TEE)
        assert set(hidden.graph.inputs) == {*whole.crossing, found.logits}
        assert hidden.graph.outputs == whole.graph.outputs
        for tensor in whole.crossing:
            assert max(whole.graph.shapes[tensor][1:]) <= strategy.grid
        image = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
        answer = run_graph(whole.graph, {"image": image})[whole.graph.outputs[0]]
        assert answer.shape == (2, 10)
        np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)


costed = st.builds(
    Costed,
    st.builds(Strategy, st.just(("tap",)), st.integers(1, 9), st.integers(0, 2), st.just(2)),
    st.integers(0, 5).map(lambda n: n / 100),
    st.integers(0, 5),
    st.integers(0, 5).map(lambda n: n / 5),
)


def no_worse(one, other):
    return (
        one.overhead_frac <= other.overhead_frac
        and one.memory_bytes <= other.memory_bytes
        and one.proxy_frac >= other.proxy_frac
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(costed, min_size=1, max_size=25))
def test_nothing_beats_the_pareto_front_and_the_front_beats_the_rest(found):
    front = pareto_front(found)
    assert front
    assert all(not no_worse(a, b) for a in front for b in front if a is not b)
    assert all(any(no_worse(a, b) for a in front) for b in found)
    assert best(front).proxy_frac == max(one.proxy_frac for one in found)


@settings(max_examples=100, deadline=None)
@given(st.lists(costed, min_size=1, max_size=25), st.floats(0.001, 0.06), st.integers(0, 5))
def test_budgets_are_kept(found, overhead, memory):
    if min(one.memory_bytes for one in found) > memory:
        with pytest.raises(ValueError, match="smallest companion branch"):
            affordable(found, Budget(overhead, memory))
        return
    kept, within = affordable(found, Budget(overhead, memory))
    assert kept
    assert all(one.memory_bytes <= memory for one in kept)
    least = min(one.overhead_frac for one in found if one.memory_bytes <= memory)
    assert within == (least <= overhead)
    assert all(one.overhead_frac <= (overhead if within else 2 * least) for one in kept)


def test_a_model_of_real_size_pays_for_a_branch_within_one_percent():
    """With a fifth of the budget in reserve, there are places, readings and widths to choose from."""
    for architecture in ("resnet20", "vgg16"):
        found = costs_of(architecture)
        kept, within = affordable(found, Budget(0.008, 4 << 20))
        assert within
        assert max(one.overhead_frac for one in kept) <= 0.008
        assert {one.strategy for one in kept} == {one.strategy for one in found if one.overhead_frac <= 0.008}
        chosen = [one.strategy for one in kept]
        assert len({one.taps for one in chosen}) >= 3
        assert len({one.width for one in chosen}) >= 3
        # What is affordable holds what matters most: the end of the last stage that can be read, and the one before.
        deepest = backbone(architecture, (3, 32, 32)).readable[-1]
        widest = {one.width for one in chosen if one.taps[-1] == deepest}
        assert max(widest) == 128


def test_a_quarter_of_the_pixels_costs_less_and_is_read_where_it_says():
    found = backbone("resnet20", (3, 32, 32))
    every = {one.strategy: one.overhead_frac for one in costs_of("resnet20")}
    pairs = [(dataclasses.replace(one, sampled=False), one) for one in every if one.sampled]
    assert pairs
    assert all(every[cheaper] < every[whole] for whole, cheaper in pairs if whole.grid == 2)
    whole = mirrored(found, Strategy((found.stages[0], found.stages[1]), 16, 0, 2, sampled=True), seed=0)
    first = whole.crossing[0]
    alone = dataclasses.replace(whole.graph, outputs=(found.stages[0], first))
    made = run_graph(alone, {"image": np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)})
    tap = made[found.stages[0]]
    height = tap.shape[2]
    cells = [tap[:, :, top : top + height // 4, :] for top in (0, height // 2)]
    expected = [[rows[..., left : left + height // 4].mean((2, 3)) for left in (0, height // 2)] for rows in cells]
    np.testing.assert_allclose(made[first], np.moveaxis(np.array(expected), (0, 1), (2, 3)), rtol=1e-5, atol=1e-6)


def test_what_stays_in_reserve_is_not_spent():
    victim = deploying.untrained_victim("vgg7", (1, 28, 28), 10)
    board, spent = board_model("qemu"), []
    bare = board.predict(split(victim.graph, in_tee=())).total_us
    for reserve in (0, 50):
        laid = deploying.deploy(spec(f"mirrornet[overhead_pct=12,reserve_pct={reserve}]"), victim)
        spent.append(board.predict(laid.segments).total_us / bare - 1)
    assert 0.12 >= spent[0] > 0.06 >= spent[1] > 0


def test_parameters_out_of_range_are_one_clear_line():
    victim = deploying.untrained_victim("vgg7", (1, 28, 28), 10)
    for text in ("overhead_pct=0", "memory_kib=0", "against=-1", "overhead_pct=2000", "reserve_pct=100"):
        with pytest.raises(PluginError, match="mirrornet: overhead_pct is above 0"):
            deploying.deploy(spec(f"mirrornet[{text}]"), victim)
    with pytest.raises(PluginError, match="smallest companion branch takes .* bytes of the TEE, not 1024"):
        deploying.deploy(spec("mirrornet[memory_kib=1]"), victim)
    with pytest.raises(PluginError, match="no costs of board 'pi'"):
        deploying.deploy(spec("mirrornet[board=pi]"), victim)


# ---- training


@pytest.fixture(scope="module")
def job(small_run):
    """VGG-7 on 200 digits, and enough epochs for MirrorNet to take hold."""
    return TrainJob("vgg7", "digits", dataclasses.replace(small_run.job.profile, defense_epochs=40), 0)


def test_an_interrupted_training_ends_with_the_same_values(small_run, job, tmp_path):
    victim = deploying.trained_victim(small_run.store, job)
    found = backbone_of("vgg7", victim.graph)
    chosen, plan = Strategy(found.stages[:2], 16, 1, 2), Settings(epochs=4)

    def train(scratch, note=None):
        scratch.mkdir(exist_ok=True)
        return train_mirror(found, chosen, victim.members, plan, "key", scratch, note, checkpoint_every_s=0)

    whole, history = train(tmp_path / "whole")
    epochs = []

    def stop(progress):
        epochs.append(progress.epoch)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop)
    again, told = train(tmp_path / "cut", lambda progress: epochs.append(progress.epoch))
    assert epochs == [1, 2, 3, 4]
    assert told == history
    assert whole.keys() == again.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, again[name])


def test_only_what_is_behind_the_first_tap_learns(small_run, job, tmp_path):
    victim = deploying.trained_victim(small_run.store, job)
    before = victim.graph.fingerprint()
    found = backbone_of("vgg7", victim.graph)
    chosen = Strategy(found.stages[1:3], 16, 0, 2)
    weights, _ = train_mirror(found, chosen, victim.members, Settings(epochs=1), "key", tmp_path)
    assert victim.graph.fingerprint() == before
    whole = mirrored(found, chosen, seed=0)
    learned = with_weights(whole.graph, weights)
    at = next(i for i, node in enumerate(learned.nodes) if node.output == chosen.taps[0])
    for i, (ours, theirs) in enumerate(zip(learned.nodes, whole.graph.nodes, strict=True)):
        for name, array in ours.weights.items():
            assert np.array_equal(array, theirs.weights[name]) == (i <= at), ours.name
    with pytest.raises(ValueError, match="is of no layer"):
        with_weights(whole.graph, {"nobody/weight": np.zeros(1, np.float32)})


def test_use_without_the_tee_is_worth_little_and_the_record_says_so(small_run, job, monkeypatch):
    """Digits: all through the board, at no cost in accuracy to speak of."""
    monkeypatch.setattr(MirrorNet, "max_accuracy_loss_frac", 0.1)
    (victim,) = parse(Kind.VICTIM, "vgg7")
    cell = Cell(victim, "digits", spec(), None, "emulated", job.profile, 0)
    record = run_latency_cell(cell, Bench(small_run.store, small_run.board, small_run.results, workers=1))
    assert record.cell.measure == LATENCY
    useful = record.utility
    assert useful.accuracy_loss_frac <= 0.05
    assert useful.accuracy_without_tee_frac is not None
    assert useful.accuracy_frac - useful.accuracy_without_tee_frac >= 0.186
    assert record.parity.label_agreement_frac == 1.0
    assert record.cost.switches_per_query == 1
    learning = record.learning
    assert learning is not None
    assert learning.key == learn_job_of(spec(), job).key().id
    assert learning.epochs == 40 == len(learning.about["history"])
    front, chosen = learning.about["pareto_front"], learning.about["strategy"]
    assert chosen in front
    assert chosen["proxy_frac"] == max(one["proxy_frac"] for one in front)
    figures = [(one["overhead_frac"], one["memory_bytes"], -one["proxy_frac"]) for one in front]
    assert sorted(figures) == figures
    assert not any(all(a <= b for a, b in zip(x, y, strict=True)) for x in figures for y in figures if x is not y)
    assert 1 <= len(front) <= learning.about["tried"] <= learning.about["affordable"]
    assert record.cost.tee_planned_bytes == chosen["memory_bytes"] <= 4096 << 10
    assert set(chosen["taps"]) <= set(
        backbone_of("vgg7", deploying.trained_victim(small_run.store, job).graph).readable
    )


def test_output_policies_share_one_training(small_run, job):
    policies = [learn_job_of(spec(f"mirrornet[output={output}]"), job).key() for output in ("top1", "probs")]
    assert policies[0] == policies[1]
    laid = deploying.lay(small_run.store, spec("mirrornet[output=probs]"), job)
    found = evaluate(small_run.store, laid, spec("mirrornet[output=probs]"), job, small_run.board).about
    assert found["parity"]["max_rel_error"] < 1e-4
    assert laid.about["policy"] == "probs"


def test_a_survey_trains_nothing_and_bounds_the_memory(small_run, job):
    before = sorted(path.name for path in small_run.store.entries())
    found = deploying.survey(small_run.store, spec("mirrornet[overhead_pct=5]"), "vgg7", (1, 8, 8), 10)
    after = sorted(path.name for path in small_run.store.entries())
    assert {name.partition("-")[0] for name in set(after) - set(before)} <= {"survey"}
    assert found["policy"] == "top1"
    assert "boundary" in found["shows"]
    laid = deploying.lay(small_run.store, spec(), job)
    bound = deploying.survey(small_run.store, spec(), "vgg7", job.material().dataset.input_shape, 10)
    assert bound["planned_bytes"] >= laid.about["planned_bytes"]
