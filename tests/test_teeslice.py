"""TEESlice: what is public never met the members, slices hold the task, pruning keeps its tolerance."""

import dataclasses

import numpy as np
import pytest

from defenses.slices.backbone import turned
from defenses.slices.layout import Shape, places, sliced
from defenses.slices.training import Lessons, Settings, Slicer
from suite import World, deploying, split
from suite.evaluating import evaluate
from suite.graph.ir import Op
from suite.graph.parse import parse_file
from suite.graph.planner import plan_memory
from suite.graph.reference import run_graph
from suite.graph.trainable import weights_of, with_weights
from suite.learning import learn_job_of
from suite.matrix import Cell
from suite.model import Effort
from suite.models import TrainJob
from suite.registry import Kind, PluginError, discover
from suite.run import Bench, run_latency_cell
from suite.spec import default_specs, parse

discover()
ARCHITECTURES = ("vgg7", "alexnet", "vgg11", "resnet20")


def spec(text="teeslice[]"):
    (found,) = parse(Kind.DEFENSE, text)
    return found


def subsets(n):
    """A slice at every place, at one, and at some."""
    chosen = [range(n), *([at] for at in range(n)), range(0, n, 2), range(1, n, 2), range(n // 2), range(n // 2, n)]
    return sorted({tuple(one) for one in chosen if one})


# ---- the layout


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_slices_are_one_call_one_way_and_never_take_more_than_all(architecture):
    victim = deploying.untrained_victim(architecture, (1, 28, 28), 10)
    readable = places(architecture, victim.graph)
    assert len(readable) >= 4
    image = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    peaks = {}
    for kept in subsets(len(readable)):
        whole = sliced(victim.graph, readable, kept, Shape(8, 4), 10, seed=0)
        public, hidden = segments = split(whole.graph, in_tee=whole.hidden)
        assert (public.world, hidden.world) == (World.REE, World.TEE)
        assert public.graph.inputs == victim.graph.inputs
        assert set(public.graph.outputs) == set(hidden.graph.inputs) == set(whole.crossing)
        assert all(max(whole.graph.shapes[tensor][1:]) <= 4 for tensor in whole.crossing)
        # Nothing behind the last place that is read is left, the classifier least of all.
        made = {node.output for node in public.graph.nodes}
        assert [at for at, tensor in enumerate(readable) if tensor in made] == list(range(kept[-1] + 1))
        assert not any(node.op in (Op.LINEAR, Op.SOFTMAX) for node in public.graph.nodes)
        answer = run_graph(whole.graph, {"image": image})[whole.graph.outputs[0]]
        np.testing.assert_allclose(answer.sum(1), 1, rtol=1e-5)
        peaks[kept] = plan_memory(segments).peak_bytes
    assert max(peaks, key=peaks.get) == tuple(range(len(readable)))


def test_fewer_slices_take_over_the_weights_of_more():
    victim = deploying.untrained_victim("vgg7", (1, 28, 28), 10)
    readable = places("vgg7", victim.graph)
    every = weights_of(sliced(victim.graph, readable, range(6), Shape(8, 4), 10, seed=0).private)
    few = sliced(victim.graph, readable, (1, 4), Shape(8, 4), 10, seed=5).private
    assert weights_of(few).keys() < every.keys()
    taken = with_weights(few, {name: every[name] for name in weights_of(few)})
    assert all(np.array_equal(array, every[name]) for name, array in weights_of(taken).items())


def test_parameters_out_of_range_are_one_clear_line():
    victim = deploying.untrained_victim("vgg7", (1, 28, 28), 10)
    for text in ("width=-1", "grid=0", "tolerance_pct=-1", "tolerance_pct=101", "public_share=-1"):
        with pytest.raises(PluginError, match="teeslice: width is 0 or more"):
            deploying.deploy(spec(f"teeslice[{text}]"), victim)
    with pytest.raises(PluginError, match="task is rotations or labels, not 'jigsaw'"):
        deploying.deploy(spec("teeslice[task=jigsaw]"), victim)


def test_it_is_in_the_default_matrix_once():
    assert [one.text for one in default_specs(Kind.DEFENSE) if one.name == "teeslice"] == [spec().text]


# ---- public images


def test_public_images_are_nobody_s_secret(small_run):
    material = small_run.job.material()
    victim = deploying.trained_victim(small_run.store, small_run.job)
    assert victim.public is material.auxiliary
    public = {image.tobytes() for image in victim.public.images}
    for part in (material.members, material.candidates, material.test):
        assert public.isdisjoint(image.tobytes() for image in part.images)


def test_images_are_turned_by_what_their_label_says():
    images = np.random.default_rng(0).standard_normal((64, 3, 5, 5)).astype(np.float32)
    found, labels, classes = turned(images, seed=1)
    assert classes == 4
    assert set(labels) == {0, 1, 2, 3}
    for image, label, original in zip(found, labels, images, strict=True):
        np.testing.assert_array_equal(np.rot90(image, -label, (1, 2)), original)
    wide, labels, classes = turned(images[:, :, :4], seed=1)
    assert (wide.shape, classes, set(labels)) == ((64, 3, 4, 5), 2, {0, 1})
    np.testing.assert_array_equal(wide[labels == 1], images[labels == 1, :, :4][:, :, ::-1, ::-1])


# ---- learning


@pytest.fixture(scope="module")
def job(small_run):
    """VGG-7 on 200 digits."""
    return TrainJob("vgg7", "digits", dataclasses.replace(small_run.job.profile, defense_epochs=16), 0)


@pytest.fixture(scope="module")
def victim(small_run, job):
    return deploying.trained_victim(small_run.store, job)


def learn(victim, scratch, on_progress=None, text="teeslice[tolerance_pct=100]", epochs=2):
    scratch.mkdir(exist_ok=True)
    return spec(text).make().learn(victim, Effort(epochs), scratch, on_progress)


def public_weights(learned):
    return {name: array for name, array in learned.arrays.items() if not name.startswith("slice")}


def test_the_backbone_never_depends_on_the_members_nor_on_the_victim(small_run, victim, tmp_path):
    """Other members, and a victim that learned from them: the same backbone, byte for byte, and other slices."""
    material = small_run.job.material()
    other = deploying.untrained_victim("vgg7", victim.input_shape, victim.n_classes)
    strangers = dataclasses.replace(other, members=material.test, public=victim.public)
    ours, theirs = (learn(one, tmp_path / name) for name, one in (("ours", victim), ("theirs", strangers)))
    mine, yours = public_weights(ours), public_weights(theirs)
    both = mine.keys() & yours.keys()
    assert both
    for name in both:
        assert mine[name].tobytes() == yours[name].tobytes()
    classifier = "slices.logits/weight"
    assert not np.array_equal(ours.arrays[classifier], theirs.arrays[classifier])


def test_nothing_of_the_victim_lies_in_the_public_file(small_run, job, victim, tmp_path):
    learned = learn(victim, tmp_path / "learned")
    deployment = deploying.deploy(spec("teeslice[tolerance_pct=100]"), victim, learned)
    secret = [array for name, array in weights_of(victim.graph).items() if name.endswith("/weight")]
    for graph in deployment.public:
        for name, array in weights_of(graph).items():
            np.testing.assert_array_equal(array, learned.arrays[name])
            assert not any(array.shape == theirs.shape and np.allclose(array, theirs) for theirs in secret)
    assert deployment.answers_alone is None
    short = dataclasses.replace(learned, arrays={k: v for k, v in learned.arrays.items() if k != min(learned.arrays)})
    with pytest.raises(PluginError, match=f"nothing was learned for {min(learned.arrays)}"):
        deploying.deploy(spec("teeslice[tolerance_pct=100]"), victim, short)


def test_an_interrupted_training_ends_with_the_same_values(victim, tmp_path):
    whole = learn(victim, tmp_path / "whole")
    for stop_at in (1, 5):  # in the backbone, and between two rounds of pruning
        told = []

        def stop(progress, told=told, stop_at=stop_at):
            told.append(progress.epoch)
            if progress.epoch == stop_at:
                raise KeyboardInterrupt

        folder = tmp_path / f"cut{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            learn(victim, folder, stop)
        later = learn(victim, folder, lambda progress, told=told: told.append(progress.epoch))
        if stop_at == 5:
            # The backbone is there, and so is every round that ended.
            assert told == [1, 2, 3, 4, 5, *range(5, told[-1] + 1)]
        assert later.about == whole.about
        assert later.arrays.keys() == whole.arrays.keys()
        for name, array in whole.arrays.items():
            np.testing.assert_array_equal(array, later.arrays[name])


@pytest.fixture(scope="module")
def slicer_of(victim):
    """Slices on the victim itself as their backbone: quick to make, and easy to learn from."""
    backbone = victim.graph
    judged = victim.public.images[:200], victim.public.labels[:200]
    images = np.concatenate([judged[0], victim.members.images])
    labels = np.concatenate([judged[1], victim.members.labels])

    def make(tolerance, victim_accuracy=0.5, epochs=16):
        readable = places("vgg7", backbone)
        # A victim that is as often right as the test wants.
        answered = np.where(np.arange(len(labels)) % 200 < 200 * victim_accuracy, labels, (labels + 1) % 10)
        answered[200:] = labels[200:]
        lessons = Lessons(images, np.eye(10, dtype=np.float32)[answered] * 8, 200, judged[1])
        assert lessons.victim_accuracy == victim_accuracy
        return Slicer(backbone, readable, Shape(16, 4), lessons, Settings(epochs, 1, tolerance, seed=0))

    return make


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 1.0])
def test_pruning_drops_slices_while_accuracy_stays_within_the_tolerance(slicer_of, tmp_path, tolerance):
    found = slicer_of(tolerance, 0.5).prune("key", tmp_path, lambda *told: None)
    first, *later = found.rounds
    assert first["kept"] == list(range(6))
    assert first["accuracy_frac"] > 0.5
    assert later
    before = first
    for one in later:
        assert before["accepted"]
        assert set(one["kept"]) < set(before["kept"])
        assert len(one["kept"]) == len(before["kept"]) - 1
        assert one["accepted"] == (one["accuracy_frac"] >= 0.5 - tolerance)
        before = one
    last = next(one for one in reversed(found.rounds) if one["accepted"])
    assert list(found.kept) == last["kept"]
    assert len(found.kept) == 1 or not found.rounds[-1]["accepted"]
    assert len(found.kept) == 1 or tolerance < 1
    whole = slicer_of(tolerance).layout(found.kept, found.weights)
    assert weights_of(whole.private).keys() == found.weights.keys()


def test_slices_that_fall_short_of_the_victim_are_held_against_their_best(slicer_of, tmp_path):
    found = slicer_of(0.0, victim_accuracy=1.0).prune("key", tmp_path, lambda *told: None)
    best = 0.0
    for one in found.rounds:
        assert one["accepted"] == (one["accuracy_frac"] >= best)
        best = max(best, one["accuracy_frac"])
    assert best < 1


def test_a_finished_pruning_is_not_done_again(slicer_of, tmp_path):
    told = []
    first = slicer_of(1.0).prune("key", tmp_path, lambda epoch, *_: told.append(epoch))
    assert told == list(range(1, 16 + 5 + 1))
    again = slicer_of(1.0).prune("key", tmp_path, lambda epoch, *_: told.append(epoch))
    assert told == list(range(1, 16 + 5 + 1))
    assert again.rounds == first.rounds
    assert all(np.array_equal(array, again.weights[name]) for name, array in first.weights.items())


def test_the_slices_hold_the_task_and_the_record_says_so(small_run, job, victim, monkeypatch):
    """Digits: all through the board, at no cost in accuracy to speak of."""
    monkeypatch.setattr(spec().plugin.cls, "max_accuracy_loss_frac", 0.1)
    (architecture,) = parse(Kind.VICTIM, "vgg7")
    cell = Cell(architecture, "digits", spec(), None, "emulated", job.profile, 0)
    record = run_latency_cell(cell, Bench(small_run.store, small_run.board, small_run.results, workers=1))
    assert record.utility.accuracy_loss_frac <= 0.05
    assert record.utility.accuracy_without_tee_frac is None
    assert record.parity.label_agreement_frac == 1.0
    assert record.cost.switches_per_query == 1
    assert 0 < record.cost.tee_flops_frac < 0.5
    learning = record.learning
    assert learning is not None
    assert learning.key == learn_job_of(spec(), job).key().id
    assert learning.about["rounds"][0]["kept"] == list(range(6))
    # The public file with slices that learned nothing: what the files are worth to somebody without the TEE's.
    laid = deploying.lay(small_run.store, spec(), job)
    public = parse_file(laid.files.public).as_segments()[0].graph
    deployment = deploying.deployed(small_run.store, spec(), job)
    (private,) = deployment.hidden
    test = job.material().test
    held = run_graph(public, {public.inputs[0]: test.images})
    held = {name: held[given] for name, given in zip(private.inputs, public.outputs, strict=True)}
    draw = np.random.default_rng(0)
    fresh = {name: draw.normal(0, 0.1, array.shape) for name, array in weights_of(private).items()}
    with_tee, without = (
        (run_graph(graph, held)[graph.outputs[0]].argmax(1) == test.labels).mean()
        for graph in (private, with_weights(private, fresh))
    )
    assert with_tee == pytest.approx(record.utility.accuracy_frac, abs=0.01)
    assert with_tee - without >= 0.5


def test_output_policies_share_one_training(small_run, job):
    laid = deploying.lay(small_run.store, spec("teeslice[output=probs]"), job)
    found = evaluate(small_run.store, laid, spec("teeslice[output=probs]"), job, small_run.board).about
    assert found["parity"]["max_rel_error"] < 1e-4
    keys = [learn_job_of(spec(f"teeslice[output={output}]"), job).key() for output in ("top1", "probs")]
    assert keys[0] == keys[1]
