"""The suite's board "qemu" on real OP-TEE: the answers of the emulated board, and what happens when things break."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from c_build import deploy, small_graph
from int8_graphs import quantized, with_slices

from device import cross
from device.board import BoardError, BoardLost, DeploymentFiles, SlicesRefused, TeeOutOfMemory
from device.emulated import EmulatedBoard
from device.qemu import vm
from device.qemu.board import QemuBoard
from device.remote import PI_TEE_LIMIT_BYTES, RemoteBoard
from device.sealing import seal
from device.slice_sealing import seal_slices, split_slices
from device.wire import Clock
from suite.graph.partition import split
from suite.graph.planner import plan_memory

DEFENSES = {
    "vanilla": set(),
    "darknetz": {"fc", "soft"},
    "sandwich": {"relu"},
    "full_tee": {"conv", "relu", "flat", "fc", "soft"},
}


@pytest.fixture
def board(qemu_machine_of_the_run):
    """On the machine of all tests, which stays up between them."""
    return QemuBoard(folder=qemu_machine_of_the_run.folder, wait_s=300)


@pytest.fixture
def pi(qemu_machine):
    """The emulated machine as if it were a Pi: an address, a dev kit, and 8 MiB."""
    return RemoteBoard(qemu_machine.target(), PI_TEE_LIMIT_BYTES, dev_kit=qemu_machine.image.dev_kit)


def images(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 2, 6, 6)).astype(np.float32)


def same_as_emulated(board, files, x):
    with EmulatedBoard().open(files) as session:
        want = session.infer(x, boundary=True)
    with board.open(files) as session:
        got, stats = session.infer(x, boundary=True), session.stats()
    np.testing.assert_allclose(got.outputs, want.outputs, atol=1e-3)
    np.testing.assert_array_equal(got.outputs.argmax(1), want.outputs.argmax(1))
    assert list(got.boundary) == list(want.boundary)
    for name, crossed in want.boundary.items():
        np.testing.assert_allclose(got.boundary[name], crossed, atol=1e-3)
    return stats


@pytest.mark.parametrize("defense", DEFENSES)
def test_answers_and_what_crosses_are_the_emulated_boards(board, tmp_path, defense):
    hidden = DEFENSES[defense]
    stats = same_as_emulated(board, deploy(tmp_path, small_graph(), hidden), images(20))
    assert stats.switches_per_query == bool(hidden)
    plan = plan_memory(split(small_graph(), hidden))
    assert bool(hidden) <= stats.tee_peak_bytes <= plan.peak_bytes
    assert bool(hidden) <= stats.shared_bytes <= plan.shared_bytes


def test_filters_that_stream_in_are_opened_by_the_board_s_own_cipher(board, tmp_path):
    graph = with_slices(quantized(small_graph()), 64)
    files = deploy(tmp_path, graph, {node.name for node in graph.nodes})
    stats = same_as_emulated(board, files, images(20))
    assert stats.switches_per_query == 1 + 3
    assert stats.tee_peak_bytes <= plan_memory(split(graph, {node.name for node in graph.nodes})).peak_bytes
    sealed = tmp_path / "damaged"
    plain = files.sealed.read_bytes()
    model, slices = seal_slices(plain, split_slices(plain, files.slices.read_bytes()))
    sealed.write_bytes(seal(model, board.device_key()))
    for at in (-1, -20, 60):
        changed = bytearray(slices)
        changed[at] ^= 1
        files.slices.write_bytes(changed)
        with (
            board.open(DeploymentFiles(files.public, sealed, files.slices)) as session,
            pytest.raises(SlicesRefused, match="the TA refuses slice"),
        ):
            session.infer(images(1))


def test_times_are_emulated_and_repeat(board, tmp_path):
    assert board.clock is Clock.PROCESS_CPU
    files, x = deploy(tmp_path, small_graph(), DEFENSES["darknetz"]), images(1)[0]
    medians = []
    for _ in range(2):
        with board.open(files) as session:
            times = session.time(x, 30, noops=30)
        assert (times.total_ns > times.invoke_ns).all()
        medians.append([np.median(times.total_ns), np.median(times.invoke_ns), np.median(times.noop_ns)])
    np.testing.assert_allclose(medians[0], medians[1], rtol=0.02)


def test_two_sessions_at_once_take_turns_in_one_process(board, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    vanilla = deploy(tmp_path / "a", small_graph(), DEFENSES["vanilla"])
    hidden = deploy(tmp_path / "b", small_graph(), DEFENSES["darknetz"])
    x = images(3)
    with board.open(vanilla) as one, board.open(hidden) as other:
        for _ in range(3):
            np.testing.assert_allclose(one.infer(x).outputs, other.infer(x).outputs, atol=1e-5)
    assert board.machine.status().paused


def test_another_process_waits_its_turn(board, tmp_path):
    files = deploy(tmp_path, small_graph(), DEFENSES["vanilla"])
    script = (
        "import sys, time, pathlib; from device.qemu.board import QemuBoard; from device.board import DeploymentFiles\n"
        "folder, public = map(pathlib.Path, sys.argv[1:])\n"
        "with QemuBoard(folder=folder).open(DeploymentFiles(public, None)): print(time.time())"
    )
    with board.open(files) as session:
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(board.machine.folder), str(files.public)],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        assert other.poll() is None
        assert session.infer(images(2)).outputs.shape == (2, 5)
        released = time.time()
    said, _ = other.communicate(timeout=120)
    assert float(said) >= released


def test_a_plug_that_is_pulled_is_a_lost_board_which_comes_back(board, tmp_path):
    files, x = deploy(tmp_path, small_graph(), DEFENSES["darknetz"]), images(20_000)
    with board.open(files) as session:
        pid = vm.find(board.machine.folder)
        pull = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
        pull.start()
        began = time.monotonic()
        with pytest.raises(BoardLost):
            session.infer(x)
        assert time.monotonic() - began < 60
        pull.join()
    board.recover()
    assert vm.find(board.machine.folder) not in (None, pid)
    same_as_emulated(board, files, images(5))


def test_a_board_that_hangs_is_noticed(board, tmp_path, monkeypatch):
    monkeypatch.setattr("device.remote.PATIENCE_S", 3.0)
    files = deploy(tmp_path, small_graph(), DEFENSES["darknetz"])
    with board.open(files) as session:
        board.machine.pause()  # nothing inside can tell this from a crash
        with pytest.raises(BoardLost, match="3 s of silence during INFER"):
            session.infer(images(1))
    board.recover()
    same_as_emulated(board, files, images(2))


def test_an_agent_that_is_killed_on_the_board_is_a_lost_session(pi, tmp_path):
    files = deploy(tmp_path, small_graph(), DEFENSES["darknetz"])
    with pi.open(files) as session:
        pi.target().run("kill -9 $(pidof $(basename $(ls $HOME/.cache/leakboard/agent-*)))")
        with pytest.raises(BoardLost, match="INFER"):
            session.infer(images(1))
    pi.recover()
    same_as_emulated(pi, files, images(2))


def test_a_damaged_ta_on_the_board_is_replaced(pi, tmp_path):
    files = deploy(tmp_path, small_graph(), DEFENSES["darknetz"])
    pi.open(files).close()
    ta = f"/lib/optee_armtz/{cross.TA_UUID}.ta"
    pi.target().run(f"cp {ta} /tmp/ta && printf '\\377' | dd of={ta} bs=1 seek=3000 conv=notrunc 2>/dev/null")
    try:
        with pi.open(files) as session:  # damaged files are put there anew
            assert session.infer(images(1)).outputs.shape == (1, 5)
    finally:
        pi.target().run(f"cp /tmp/ta {ta}")


def test_a_ta_larger_than_the_tee_is_out_of_memory(qemu_machine, tmp_path):
    board = RemoteBoard(qemu_machine.target(), cross.limit_bytes(15 << 20), dev_kit=qemu_machine.image.dev_kit)
    with pytest.raises(TeeOutOfMemory, match="raise the TEE's memory limit or hide fewer layers"):
        board.open(deploy(tmp_path, small_graph(), DEFENSES["darknetz"]))


def test_a_ta_of_another_key_is_refused_with_the_reason(pi, qemu_machine, tmp_path, monkeypatch):
    wrong = tmp_path / f"{cross.TA_UUID}.ta"
    content = bytearray(pi._ta.read_bytes())
    content[200] ^= 1  # in the signature
    wrong.write_bytes(content)
    monkeypatch.setattr(pi, "_ta", wrong)
    with pytest.raises(BoardError, match="signed with another key"):
        pi.open(deploy(tmp_path, small_graph(), DEFENSES["darknetz"]))


def test_an_ssh_board_runs_the_same_and_tells_what_it_is(pi, tmp_path):
    same_as_emulated(pi, deploy(tmp_path, small_graph(), DEFENSES["full_tee"]), images(5))
    about = pi.describe()
    assert about["mode"] == "hardware"
    assert about["optee"].startswith("4.")
    assert about["cpu"].startswith("Cortex-A53")
    assert about["tee_limit_bytes"] == PI_TEE_LIMIT_BYTES
    assert pi.name.startswith("ssh_root_127_0_0_1_")
    assert len(pi.device_key()) == 64
    assert pi.device_key() == pi.device_key()


def test_the_run_that_booted_it_stops_it(qemu_machine_of_the_run, monkeypatch, tmp_path):
    machine = qemu_machine_of_the_run
    with machine.having("a test"):
        machine.stop()
    files = deploy(tmp_path, small_graph(), DEFENSES["vanilla"])
    monkeypatch.setenv("LEAKBOARD_RUN", f"{os.getpid()}-first")
    QemuBoard(folder=machine.folder).open(files).close()
    monkeypatch.setenv("LEAKBOARD_RUN", f"{os.getpid()}-second")
    QemuBoard(folder=machine.folder).close()
    assert machine.is_running()
    monkeypatch.setenv("LEAKBOARD_RUN", f"{os.getpid()}-first")
    QemuBoard(folder=machine.folder).close()
    assert not machine.is_running()


def test_limits_leave_a_heap():
    assert cross.heap_bytes(cross.limit_bytes(8 << 20)) == 8 << 20
    with pytest.raises(BoardError, match="leaves the TA no heap"):
        QemuBoard(tee_limit_bytes=100_000)
