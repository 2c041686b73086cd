"""Work on a cluster, seen from the driver: which tasks go out, come back, are lost or refused. Ray is stood in for."""

import dataclasses
import importlib.util
import pickle

import pytest

from suite import cluster, progress, run
from suite.cluster import ATTEMPTS, Cluster
from suite.cluster_task import Order, perform
from suite.engine import ClusterError
from suite.gates import GateError
from suite.matrix import Cell
from suite.models import Role, TrainJob, train_job
from suite.pool import TrainingStopped, ensure
from suite.profiles import Profile
from suite.ray_tasks import Event, _entry
from suite.records import read_records, read_scores
from suite.registry import Kind, discover
from suite.run import Bench, run_attack_cell
from suite.sameness import CODE, identity
from suite.session import Options, Run, UsageError
from suite.spec import parse
from suite.store import Key, Store
from tests.conftest import TINY
from victims.data.splits import SplitSizes

SHORT = Profile("short", ("digits",), SplitSizes(members=100, auxiliary=300, test=100), 1, 2, 4)
JOBS = [TrainJob("alexnet", "digits", SHORT, 0, Role.SHADOW, index) for index in (0, 1)]


class Stand:
    """In place of ``RayTasks``: does the oldest task when asked what happened. ``losses``: by number, how often."""

    losses: dict[int, int] = {}  # noqa: RUF012
    changed = staticmethod(lambda order: order)

    def __init__(self, address, identity, gpus=0):
        self.address, self.waiting, self.cancelled, self.closed = address, [], set(), False

    def probe(self, body):
        return [Event(-1, "done", perform(body, lambda data: None), node="10.0.0.7")]

    def slots(self):
        return 2

    def submit(self, number, body):
        self.waiting.append((number, pickle.dumps(type(self).changed(pickle.loads(body)))))

    def events(self):
        if not self.waiting:
            return
        number, body = self.waiting.pop(0)
        if self.losses.get(number, 0) > 0:
            self.losses[number] -= 1
            yield Event(number, "lost", text="killed")
            return
        notes = []
        outcome = perform(body, notes.append)
        for note in notes:
            yield Event(number, "note", note)
        yield Event(number, "done", outcome, node="10.0.0.7")

    def cancel(self, numbers):
        self.cancelled |= numbers

    def close(self):
        self.closed = True


@pytest.fixture
def stand(monkeypatch):
    discover()
    made = type("Stood", (Stand,), {"losses": {}})
    monkeypatch.setattr(cluster, "RayTasks", made)
    return made


@pytest.fixture
def said():
    lines = []
    with progress.sink(lines.append):
        yield lines


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The driver's store; the node, whose cache is another, shares its URL."""
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "node"))
    return Store(tmp_path / "driver", f"file://{tmp_path}/shared")


def test_models_of_a_node_are_those_of_this_machine(stand, shared, said, tmp_path):
    engine = Cluster("auto", shared)
    ensure(shared, JOBS, workers=engine)
    alone = Store(tmp_path / "alone")
    for job in JOBS:
        expected = (train_job(alone, job) / "model.pt").read_bytes()
        assert (shared.path(job.key()) / "model.pt").read_bytes() == expected
        assert (tmp_path / "node" / "store" / "entries" / job.key().id).is_dir()
    assert said[0].startswith("training 2 shadows, 2 side by side")
    assert said[-1].startswith("  2/2  done in")
    assert "accuracy" in said[-1]


def test_a_lost_worker_costs_its_task_only(stand, shared, said):
    stand.losses = {0: ATTEMPTS - 1}
    ensure(shared, JOBS, workers=Cluster("auto", shared))
    lost = [line for line in said if "its worker was lost (killed); it is handed out again" in line]
    assert len(lost) == ATTEMPTS - 1
    assert all(shared.find(job.key()) for job in JOBS)


def test_what_kills_every_worker_is_named_and_the_others_are_made(stand, shared):
    stand.losses = {0: ATTEMPTS}
    failed = Cluster("auto", shared).train(shared, JOBS, Silent(), ())
    assert list(failed) == [JOBS[0]]
    assert isinstance(failed[JOBS[0]], TrainingStopped)
    assert str(failed[JOBS[0]]).startswith(f"{JOBS[0]}: its worker was lost {ATTEMPTS} times, at last so: killed")
    assert shared.find(JOBS[1].key())


class Silent:
    """A tally that tells nothing."""

    def note(self, *_):
        pass

    finish = fail = note


@pytest.mark.parametrize(("ending", "cancelled"), [(KeyboardInterrupt, set()), (OSError, {0, 1})])
def test_what_is_out_ends_with_the_run_and_is_cancelled_in_one_that_goes_on(
    stand, shared, monkeypatch, ending, cancelled
):
    def interrupted(self):
        raise ending

    engine = Cluster("auto", shared)
    monkeypatch.setattr(stand, "events", interrupted)
    with pytest.raises(ending):
        engine.train(shared, JOBS, Silent(), ())
    assert engine._tasks.cancelled == cancelled
    engine.close()
    assert engine._tasks.closed


def with_other_torch(order):
    if order.what is None:
        return order
    (key,) = order.keys
    return dataclasses.replace(order, keys=(Key(key.kind, {**key.parts, "versions": {"torch": "1.0", "numpy": "2"}}),))


def test_a_node_that_would_make_another_model_refuses(stand, shared):
    stand.changed = staticmethod(with_other_torch)
    failed = Cluster("auto", shared).train(shared, JOBS[:1], Silent(), ())
    expected = r"node 10\.0\.0\.7: a model would not be the same here: versions \(torch .* started 1\.0"
    with pytest.raises(ClusterError, match=expected):
        raise failed[JOBS[0]]
    assert shared.find(JOBS[0].key()) is None


def test_a_node_that_sees_another_store_is_refused_before_anything_is_trained(stand, shared, monkeypatch):
    identities = iter("ab")
    monkeypatch.setattr(type(shared.shared), "identity", lambda self: next(identities))
    with pytest.raises(ClusterError, match=r"file://.*/shared is not the one .* mount the same folder"):
        Cluster("auto", shared)


def test_a_node_with_other_code_is_refused_with_both_hashes():
    pytest.importorskip("ray")
    other = {**identity(), CODE: "0" * 64, "torch": "1.0"}
    kind, _, text = _entry()(other, b"", 0, None)
    assert kind == "refused"
    assert f"{CODE} is {identity()[CODE][:12]}, where the run was started 000000000000" in text
    assert f"torch is {identity()['torch'][:12]}, where the run was started 1.0" in text


def test_loose_plugins_go_along_with_the_files_they_name(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "weights.csv").write_text("1\n")
    (folder / "carried.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nfrom suite import victim\nfrom victims.recipe import Recipe\n"
        'Path(__file__).with_name("weights.csv").read_text()\n'
        '@victim("carried", recipe=Recipe())\nclass Carried(nn.Module):\n    """Nothing."""\n'
    )
    packed = cluster._packed(folder / "carried.py")
    assert sorted(packed.files) == ["carried.py", "weights.csv"]
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "node"))
    (folder / "carried.py").unlink()
    from suite.cluster_task import _unpacked

    path = _unpacked(packed)
    assert path.is_relative_to(tmp_path / "node")
    assert path.with_name("weights.csv").read_text() == "1\n"


@pytest.fixture
def cell(small_run):
    (victim,), (defense,), (attack,) = (
        parse(kind, name)
        for kind, name in ((Kind.VICTIM, "alexnet"), (Kind.DEFENSE, "vanilla"), (Kind.ATTACK, "loss_threshold"))
    )
    return Cell(victim, "digits", defense, attack, "emulated", TINY, 0)


def test_a_cell_of_the_cluster_gives_the_record_of_this_machine(stand, small_run, cell, tmp_path):
    engine = Cluster("local", small_run.store)
    here, away = Bench(small_run.store, small_run.board, tmp_path / "here"), tmp_path / "away"
    bench = dataclasses.replace(here, results=away, workers=engine)
    engine.begin([cell], bench)
    far, near = run_attack_cell(cell, bench), run_attack_cell(cell, here)

    def timeless(record):
        return dataclasses.replace(
            record, provenance=dataclasses.replace(record.provenance, seconds={}, created_utc="")
        )

    assert timeless(far) == timeless(near)
    assert read_records(away)[0] == [far]
    read_scores(away, far)

    again = Cluster("local", small_run.store)  # an up-to-date record is kept as it is
    again.begin([cell], bench)
    assert run_attack_cell(cell, dataclasses.replace(bench, workers=again)) == far


def test_a_cell_that_fails_its_gate_has_its_record_all_the_same(stand, small_run, cell, tmp_path, monkeypatch):
    def fails(record, limit):
        raise GateError("parity")

    monkeypatch.setattr(run.gates, "check", fails)
    engine = Cluster("local", small_run.store)
    bench = Bench(small_run.store, small_run.board, tmp_path, workers=engine)
    engine.begin([cell], bench)
    with pytest.raises(GateError, match="parity"):
        run_attack_cell(cell, bench)
    assert len(read_records(tmp_path)[0]) == 1


def test_errors_that_do_not_pickle_arrive_as_what_they_are_known_as():
    body = pickle.dumps(Order(None, "/proc/nobody", None, None, (), {}))
    assert "cannot write to the store /proc/nobody" in str(pickle.loads(perform(body, print)).error)


@pytest.mark.parametrize(("address", "expected"), [("auto", "--store URL"), ("", "write auto, local")])
def test_an_address_that_cannot_do_is_told_before_anything_begins(address, expected):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.raises(UsageError, match=expected):
        Run(Options(profile="smoke", ray=address))


def test_without_ray_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ray" else find(name, *a))
    with pytest.raises(UsageError, match=r"--ray needs Ray: pip install 'leakboard\[cluster\]'"):
        Run(Options(profile="smoke", ray="local"))
