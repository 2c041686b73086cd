"""The emulated board end to end: answers, policies, boundary, memory limit, deaths."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from c_build import deploy, small_graph
from graph_strategies import images_for, split_graphs
from hypothesis import HealthCheck, given, settings

from device.board import BoardError, DeploymentFiles, TeeOutOfMemory
from device.emulated import EmulatedBoard
from suite.graph.partition import World, split
from suite.graph.planner import plan_memory
from suite.graph.reference import run_graph
from suite.policy import OutputPolicy

HIDDEN = {
    "none": set(),
    "last": {"fc", "soft"},
    "middle": {"relu"},
    "all": {"conv", "relu", "flat", "fc", "soft"},
}


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 2, 6, 6)).astype(np.float32)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def agents() -> set[int]:
    return {p for p in children(os.getpid()) if Path(f"/proc/{p}/comm").read_text().strip() == "agent"}


def gone(pid: int, seconds: float = 5) -> bool:
    """Whether the process ends (a zombie has) within the time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("hidden", HIDDEN)
def test_outputs_equal_pytorch_wherever_the_cut_is(tmp_path, hidden):
    graph, x = small_graph(), images(7)
    with EmulatedBoard().open(deploy(tmp_path, graph, HIDDEN[hidden])) as session:
        np.testing.assert_allclose(session.infer(x).outputs, run_graph(graph, {"image": x})["p"], rtol=1e-4)
        assert session.infer(x[:0]).outputs.shape == (0, 5)


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=split_graphs())
def test_random_deployments_and_what_crosses(tmp_path, case, sanitize):
    graph, hidden = case
    if not hidden:
        return
    files, segments, x = deploy(tmp_path, graph, set(hidden)), split(graph, hidden), images_for(graph)
    with EmulatedBoard(sanitize=sanitize).open(files) as session:
        answer, stats = session.infer(x["image"], boundary=True), session.stats()
    held = dict(x)
    expected = {}
    for step, segment in enumerate(segments):
        held |= run_graph(segment.graph, held)
        if segment.world is World.TEE:
            last = step == len(segments) - 1
            expected |= {f"step{step}.in{j}": held[t] for j, t in enumerate(segment.graph.inputs)}
            outputs = () if last else segment.graph.outputs
            expected |= {f"step{step}.out{j}": held[t] for j, t in enumerate(outputs)}
    assert list(answer.boundary) == list(expected)
    for name, want in expected.items():
        scale = np.abs(want).max()
        np.testing.assert_allclose(answer.boundary[name], want, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
    np.testing.assert_allclose(answer.outputs, held[graph.outputs[0]], rtol=1e-4, atol=1e-6)
    assert stats.switches_per_query == sum(s.world is World.TEE for s in segments)
    if not sanitize:  # whose static data are larger
        assert 0 < stats.tee_peak_bytes <= plan_memory(segments).peak_bytes


@pytest.mark.parametrize("policy", ["probs", "rounded2", "rounded0", "topk1", "topk3", "topk5", "top1"])
@pytest.mark.parametrize("hidden", ["none", "last"])
def test_nothing_but_the_policy_comes_out(tmp_path, policy, hidden):
    graph, x, rule = small_graph(), images(40), OutputPolicy.parse(policy)
    with EmulatedBoard().open(deploy(tmp_path, graph, HIDDEN[hidden])) as session:
        whole = session.infer(x).outputs
    with EmulatedBoard().open(deploy(tmp_path, graph, HIDDEN[hidden], rule)) as session:
        outputs, stats = session.infer(x).outputs, session.stats()
    want = rule.apply(whole)
    assert outputs.dtype == want.dtype
    np.testing.assert_array_equal(outputs, want)
    if hidden == "last":
        assert stats.bytes_from_tee == (4 if rule.label_only else 20)


def test_times_and_counts(tmp_path):
    x = images(1)[0]
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"])) as session:
        times, stats = session.time(x, 9), session.stats()
    assert times.total_ns.shape == times.invoke_ns.shape == (9,)
    assert (times.total_ns > times.invoke_ns).all()
    assert (times.invoke_ns > 0).all()
    assert (times.noop_ns > 0).all()
    assert times.noop_ns.size
    assert (stats.switches_per_query, stats.bytes_to_tee, stats.bytes_from_tee) == (1, 432, 20)
    assert stats.ree_bytes > 0
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), set())) as session:
        times, stats = session.time(x, 3), session.stats()
    assert times.noop_ns.size == 0
    assert (times.invoke_ns == 0).all()
    assert (stats.switches_per_query, stats.tee_peak_bytes) == (0, 0)


def test_the_memory_limit_is_exact(tmp_path):
    files = deploy(tmp_path, small_graph(classes=4000), HIDDEN["last"])
    with EmulatedBoard().open(files) as session:
        peak = session.stats().tee_peak_bytes
    assert peak > 4000 * 108 * 4
    with EmulatedBoard(peak).open(files) as session:
        assert session.infer(images(1)).outputs.shape == (1, 4000)
        stats = session.stats()
        assert (stats.tee_peak_bytes, stats.tee_limit_bytes) == (peak, peak)
    for limit in (peak - 1, peak - 50_000):
        with pytest.raises(TeeOutOfMemory, match="memory limit"):
            EmulatedBoard(limit).open(files)
    with pytest.raises(BoardError, match="does not even hold"):
        EmulatedBoard(1000).open(files)


@pytest.mark.parametrize("damage", ["public", "sealed", "other_id", "no_sealed", "too_much", "swapped", "missing"])
def test_files_that_do_not_fit_are_named(tmp_path, damage):
    files = deploy(tmp_path, small_graph(), HIDDEN["last"])
    assert files.sealed is not None
    message = {
        "public": "public file is refused: not a model",
        "sealed": "sealed model is refused: a segment's world",
        "other_id": "the model inside is another one than was asked for",
        "no_sealed": "no sealed file was given",
        "too_much": "has no TEE segment",
        "swapped": "public file is refused: the header names a world",
        "missing": "cannot read the sealed file",
    }[damage]
    if damage == "public":
        files.public.write_bytes(b"x" * 300)
    elif damage in ("sealed", "other_id"):
        data = np.frombuffer(files.sealed.read_bytes(), "<u4").copy()
        at = data[9] // 4 if damage == "sealed" else 18  # the first segment's world; the model id
        data[at] ^= 1
        files.sealed.write_bytes(data.tobytes())
    elif damage == "no_sealed":
        files = DeploymentFiles(files.public, None)
    elif damage == "too_much":
        deploy(tmp_path, small_graph(), set())
    elif damage == "swapped":
        files = DeploymentFiles(files.sealed, files.sealed)
    else:
        files.sealed.unlink()
    with pytest.raises(BoardError, match=message):
        EmulatedBoard().open(files)


def test_wrong_images_leave_the_session_usable(tmp_path):
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"])) as session:
        for wrong in (np.zeros((1, 2, 6, 5), np.float32), np.zeros((2, 6, 6), np.float32)):
            with pytest.raises(BoardError, match="takes \\(2, 6, 6\\) each"):
                session.infer(wrong)
        assert session.infer(images(1)).outputs.shape == (1, 5)
    with pytest.raises(BoardError, match="session is over"):
        session.infer(images(1))
    session.close()


def test_a_dead_secure_world_is_reported_with_its_signal(tmp_path):
    before = agents()
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"])) as session:
        (agent,) = agents() - before
        (world,) = children(agent)
        os.kill(world, signal.SIGSEGV)
        assert gone(world)  # its other thread may answer until then
        with pytest.raises(BoardError, match="secure world died.*killed by signal 11"):
            session.infer(images(1))
        with pytest.raises(BoardError, match="secure world died"):
            session.infer(images(1))


def test_a_dead_agent_takes_its_secure_world_along_and_is_reported(tmp_path):
    before = agents()
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"])) as session:
        (agent,) = agents() - before
        (world,) = children(agent)
        os.kill(agent, signal.SIGKILL)
        with pytest.raises(BoardError, match=r"agent was killed by signal 9 \(SIGKILL\)"):
            session.infer(images(1))
        assert gone(world)


def test_closing_ends_both_processes(tmp_path):
    before = agents()
    session = EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"]))
    (agent,) = agents() - before
    (world,) = children(agent)
    session.close()
    assert gone(agent)
    assert gone(world)


def test_a_killed_python_leaves_no_process_and_no_sealed_file(tmp_path):
    deploy(tmp_path, small_graph(), HIDDEN["last"])
    script = f"""
        import os, sys, time
        from pathlib import Path
        from device.board import DeploymentFiles
        from device.emulated import EmulatedBoard
        folder = Path({str(tmp_path)!r})
        session = EmulatedBoard().open(DeploymentFiles(folder / "public.lbm", folder / "sealed.lbm"))
        pids = Path(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read_text().split()
        print(*pids, flush=True)
        time.sleep(60)
    """
    root = Path(__file__).parents[1]
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(scratch)}
    host = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert host.stdout is not None
    (agent,) = (int(pid) for pid in host.stdout.readline().split())
    (world,) = children(agent)
    assert list(scratch.iterdir()) == []  # what was provisioned lies in the secure world's memory only
    host.kill()
    host.wait()
    host.stdout.close()
    assert gone(agent)
    assert gone(world)


def test_an_interrupt_ends_the_session_instead_of_mixing_answers(tmp_path, monkeypatch):
    session = EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"]))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.infer(images(4))
    with pytest.raises(BoardError, match="session is over"):
        session.infer(images(4))


def test_the_agent_is_told_nothing_of_where_the_sealed_model_lies(tmp_path):
    before = agents()
    with EmulatedBoard().open(deploy(tmp_path, small_graph(), HIDDEN["last"])):
        (agent,) = agents() - before
        known = Path(f"/proc/{agent}/cmdline").read_bytes() + Path(f"/proc/{agent}/environ").read_bytes()
        files = [os.readlink(f"/proc/{agent}/fd/{fd}") for fd in os.listdir(f"/proc/{agent}/fd")]
    assert b"leakboard-tee-" not in known
    assert not [name for name in files if "leakboard" in name]


def test_the_session_holds_no_hidden_weight_on_this_side(tmp_path):
    graph = small_graph()
    files = deploy(tmp_path, graph, HIDDEN["last"])
    with EmulatedBoard().open(files) as session:
        seen, todo = set(), [session]
        while todo:
            item = todo.pop()
            if id(item) in seen or isinstance(item, type | str | int):
                continue
            seen.add(id(item))
            assert not isinstance(item, bytes | bytearray | np.ndarray) or not len(item), item
            assert item != files.sealed
            if isinstance(item, dict):
                todo += [*item.values()]
            elif isinstance(item, list | tuple | set):
                todo += list(item)
            elif type(item).__module__.startswith("device"):
                todo += list(vars(item).values())


def test_fingerprint_covers_limit_and_build(tmp_path):
    board = EmulatedBoard()
    assert board.fingerprint() == EmulatedBoard().fingerprint()
    assert board.fingerprint() != EmulatedBoard(8 << 20).fingerprint()
    assert board.tee_limit_bytes() == board.describe()["tee_limit_bytes"] == 16 << 20


def test_sessions_end_without_a_leak_or_a_fault_under_sanitizers(tmp_path):
    board, x = EmulatedBoard(sanitize=True), images(3)
    for hidden in HIDDEN.values():
        session = board.open(deploy(tmp_path, small_graph(), hidden))
        session.infer(x, boundary=True)
        session.time(x[0], 2)
        session.stats()
        process, stderr = session._connection._process, session._connection._stderr
        process.stdin.close()
        assert process.wait(20) == 0
        stderr.seek(0)
        assert stderr.read() == b""  # leaks of either process are reported at its end
        session.close()
