"""Defenses that train: once for each victim, resumed after an interruption, before the first deployment."""

import dataclasses
import json

import numpy as np
import pytest

from suite import Deployment, Learned, LearnedDefense, OutputPolicy, defense, deploying, pool, split
from suite.evaluating import accuracy_without_tee, evaluate
from suite.graph.ir import GraphError
from suite.learning import learn_job, learn_job_of, load_learned
from suite.registry import Kind, PluginError, discover
from suite.spec import parse
from suite.store import Store

discover()

STUDENT = '''
"""A defense that learns, for tests."""
import numpy as np
from suite import Deployment, Learned, LearnedDefense, LearningProgress, OutputPolicy, defense, split

@defense("student")
class Student(LearnedDefense):
    """Learns the mean of the members (original)."""
    layout_only = frozenset({"output"})
    output: str = "top1"
    power: int = 1
    def learn(self, victim, effort, scratch, on_progress=None):
        done = scratch / "done"
        first = int(done.read_text()) if done.exists() else 0
        for epoch in range(first, effort.epochs):
            done.write_text(str(epoch + 1))
            if on_progress:
                on_progress(LearningProgress(epoch + 1, effort.epochs, 1.0, 0.5, 0.0))
        return Learned({"mean": victim.members.images.mean(0) ** self.power}, {"first": first})
    def deploy(self, victim, learned=None):
        return Deployment(split(victim.graph, in_tee={victim.graph.nodes[-1].name}), OutputPolicy.parse(self.output))
'''


def one(text):
    (spec,) = parse(Kind.DEFENSE, text)
    return spec


@pytest.fixture
def student(scratch_registry, tmp_path):
    from suite.registry import load_file

    path = tmp_path / "student_plugin.py"
    path.write_text(STUDENT)
    load_file(path)
    return path


@pytest.fixture
def store(small_run, tmp_path):
    """A store of this test's own, with the trained victim in it."""
    mine = Store(tmp_path / "store")
    entry = small_run.store.find(small_run.job.key())
    (mine.root / "entries" / entry.name).symlink_to(entry)
    return mine


def entries(store, kind):
    return sorted(path.name for path in store.entries() if path.name.startswith(f"{kind}-"))


@pytest.mark.usefixtures("student")
def test_what_is_learned_is_shared_by_layouts_and_only_by_them(small_run, store):
    job = small_run.job
    for text in ("student[]", "student[output=probs]"):
        deploying.lay(store, one(text), job)
    assert len(entries(store, "learned")) == 1
    assert len(entries(store, "deployment")) == 2
    deploying.lay(store, one("student[power=2]"), job)
    assert len(entries(store, "learned")) == 2
    more = dataclasses.replace(job, profile=dataclasses.replace(job.profile, defense_epochs=99))
    assert learn_job_of(one("student[]"), more).key() != learn_job_of(one("student[]"), job).key()
    assert learn_job_of(one("vanilla"), job) is None


@pytest.mark.usefixtures("student")
def test_an_interrupted_training_goes_on_where_it_was(small_run, store):
    lesson = learn_job_of(one("student[]"), small_run.job)

    def stop(progress):
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_job(store, lesson, stop)
    assert entries(store, "learned") == []
    told = []
    learned = load_learned(learn_job(store, lesson, lambda progress: told.append(progress.epoch)))
    assert learned.about == {"first": 3}
    assert told == list(range(4, small_run.job.profile.defense_epochs + 1))
    np.testing.assert_array_equal(learned.arrays["mean"], small_run.job.material().members.images.mean(0))


@pytest.mark.parametrize("workers", [1, 2])
def test_defenses_are_trained_with_the_victims_before_the_first_test(small_run, store, student, workers):
    jobs = [learn_job_of(one(text), small_run.job) for text in ("student[]", "student[power=2]")]
    pool.ensure(store, [*jobs, small_run.job], (str(student),), workers)
    assert len(entries(store, "learned")) == 2


@pytest.mark.usefixtures("scratch_registry")
def test_a_lesson_that_fails_is_named_and_its_cells_fail_alike(small_run, store):
    @defense("truant")
    class Truant(LearnedDefense):
        what: str = "nothing"

        def learn(self, victim, effort, scratch, on_progress=None):
            if self.what == "error":
                raise ValueError("truant: this victim cannot be learned about")
            values = {"nan": Learned({"x": np.array([np.nan])}, {}), "text": Learned({}, {"x": object()})}
            return values.get(self.what)

        def deploy(self, victim, learned=None):
            return Deployment(split(victim.graph, in_tee=()), OutputPolicy.parse("probs"))

    for what, message in {
        "nothing": r"defense truant\[what=nothing\] \(.*test_learning.py:\d+\): learn\(\) returned NoneType",
        "nan": "'x' is no array of finite numbers",
        "text": "nothing that JSON holds",
        "error": "^truant: this victim cannot be learned about$",
    }.items():
        lesson = learn_job_of(one(f"truant[what={what}]"), small_run.job)
        for _ in range(2):
            with pytest.raises(PluginError, match=message):
                pool.ensure(store, [lesson], workers=1)


@pytest.mark.usefixtures("student")
def test_a_survey_trains_nothing(store):
    found = deploying.survey(store, one("student[]"), "alexnet", (1, 8, 8), 10)
    assert found["policy"] == "top1"
    assert entries(store, "learned") == []


# ---- what the public part answers alone


def test_the_public_answer_must_come_from_the_normal_world_alone():
    graph = deploying.untrained_victim("vgg7", (1, 28, 28), 10).graph
    softmax = graph.nodes[-1]
    last = split(graph, in_tee={softmax.name})
    policy = OutputPolicy.parse("top1")
    assert Deployment(last, policy).answers_alone is None
    assert Deployment(last, policy, softmax.inputs[0]).answers_alone == softmax.inputs[0]
    for name in ("nothing", softmax.output, graph.inputs[0], graph.nodes[0].output):
        with pytest.raises(GraphError, match=f"public answer '{name}' must be an output"):
            Deployment(last, policy, name)
    tainted = split(graph, in_tee={graph.nodes[0].name, softmax.name})
    with pytest.raises(GraphError, match="needs nothing of the TEE"):
        Deployment(tainted, policy, softmax.inputs[0])


def test_accuracy_without_the_tee_is_measured_on_the_public_file(small_run):
    test = small_run.job.material().test
    for text, alone in (("vanilla", True), ("darknetz[k=2]", False), ("full_tee[output=top1]", False)):
        laid = deploying.lay(small_run.store, one(text), small_run.job)
        about = evaluate(small_run.store, laid, one(text), small_run.job, small_run.board).about
        assert about["accuracy_without_tee_frac"] == (about["accuracy_frac"] if alone else None)
    whole = deploying.deployed(small_run.store, one("darknetz[k=1,output=probs]"), small_run.job)
    softmax = whole.segments[-1].graph.nodes[-1]
    graph = deploying.trained_victim(small_run.store, small_run.job).graph
    shown = Deployment(split(graph, in_tee={softmax.name}), whole.policy, softmax.inputs[0])
    from suite.graph.format import pack_public

    path = small_run.results / "public.lbm"
    path.write_bytes(pack_public(shown.segments, shown.policy, bytes(16)))
    own = small_run.job.key()
    trained = json.loads((small_run.store.path(own) / "training.json").read_text())["test_accuracy_frac"]
    assert accuracy_without_tee(shown, path, test) == pytest.approx(trained, abs=1e-9)
