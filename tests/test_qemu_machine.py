"""The real board, booted: that it is what it should be, and that it survives what happens to boards."""

import multiprocessing
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from device.board import BoardError, BoardLost
from device.qemu import vm
from device.qemu.machine import Machine
from device.qemu.selftest import self_test

STORE = "/var/lib/optee-client/data/tee"


def cpu_ticks(pid: int) -> int:
    """Processor time of a process, in ticks."""
    return sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])


def test_the_board_is_a_real_optee_with_closed_memory(qemu_machine):
    findings = list(self_test(qemu_machine.target(), qemu_machine.image.versions["optee-os"]))
    assert [found.what for found in findings if not found.good] == []
    assert sum(found.what == "secure memory is closed" for found in findings) == 3


def test_only_its_own_key_opens_it_and_it_proves_who_it_is(qemu_machine, tmp_path):
    target = qemu_machine.target()
    other = Machine(qemu_machine.image, tmp_path / "other")
    other.folder.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    options = [option.replace("client_key", "absent") for option in target.options]
    ssh = ["ssh", "-o", "BatchMode=yes", "-p", str(target.port), "-l", "root"]
    stranger = subprocess.run([*ssh, *options, "-i", tmp_path / "key", target.host, "true"], capture_output=True)
    assert stranger.returncode == 255
    assert b"Permission denied (publickey)" in stranger.stderr
    known = tmp_path / "known"
    known.write_text(f"leakboard-qemu {(tmp_path / 'key.pub').read_text()}")
    wrong = [option if "UserKnownHosts" not in option else f"UserKnownHostsFile={known}" for option in target.options]
    impostor = subprocess.run([*ssh, *wrong, target.host, "true"], capture_output=True)
    assert impostor.returncode == 255
    assert b"Host key verification failed" in impostor.stderr


def test_a_paused_board_takes_no_processor_time_and_goes_on_where_it_was(qemu_machine):
    pid = qemu_machine.status().pid

    def ticks_in_a_second():
        before = cpu_ticks(pid)
        time.sleep(1.0)
        return cpu_ticks(pid) - before

    qemu_machine.target().run("echo here > /tmp/mark; (while :; do :; done) > /dev/null 2>&1 & echo $! > /tmp/busy")
    working = ticks_in_a_second()
    qemu_machine.pause()
    assert qemu_machine.status().paused
    assert ticks_in_a_second() < working / 3  # a few, of what was on its way
    qemu_machine.resume()
    assert not qemu_machine.status().paused
    assert qemu_machine.target().run("kill $(cat /tmp/busy); cat /tmp/mark").strip() == "here"


def test_booting_a_board_that_runs_keeps_it(qemu_machine):
    pid = qemu_machine.status().pid
    qemu_machine.pause()
    qemu_machine.boot()
    assert qemu_machine.status().pid == pid
    assert not qemu_machine.status().paused


def test_it_survives_having_its_plug_pulled_while_it_writes(qemu_machine):
    target = qemu_machine.target()
    target.run(f"echo kept > {STORE}/kept")
    writer = subprocess.Popen(
        target.command(f"while :; do dd if=/dev/urandom of={STORE}/noise bs=4k count=8 2>/dev/null; done"),
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    pid = qemu_machine.status().pid
    qemu_machine.kill()
    writer.wait(timeout=30)
    assert not qemu_machine.is_running()
    with pytest.raises(BoardLost, match="board boot"):
        qemu_machine.target()
    started = time.monotonic()
    qemu_machine.boot()
    assert time.monotonic() - started < 30.0
    assert qemu_machine.status().pid != pid
    assert qemu_machine.target().run(f"cat {STORE}/kept; rm -r {STORE}/*").strip() == "kept"


def test_tee_supplicant_comes_back(qemu_machine):
    target = qemu_machine.target()
    before = target.run("pidof tee-supplicant").strip()
    target.run(f"kill -9 {before}; while [ -z $(pidof tee-supplicant) ]; do sleep 1; done")
    assert target.run("pidof tee-supplicant").strip() not in ("", before)


def _use(folder: Path, image, log) -> None:
    with Machine(image, folder).using(f"user {os.getpid()}"):
        log.put(("in", os.getpid()))
        Machine(image, folder).target().run("true")
        log.put(("out", os.getpid()))


def test_processes_have_the_board_in_turns(qemu_machine_of_the_run):
    machine = qemu_machine_of_the_run
    context = multiprocessing.get_context("spawn")
    log = context.Queue()
    users = [context.Process(target=_use, args=(machine.folder, machine.image, log)) for _ in range(2)]
    for user in users:
        user.start()
    events = [log.get(timeout=60) for _ in range(4)]
    for user in users:
        user.join()
        assert user.exitcode == 0
    assert [what for what, _ in events] == ["in", "out", "in", "out"]
    assert events[0][1] == events[1][1] != events[2][1] == events[3][1]


def test_a_board_in_use_is_not_waited_for_for_ever_and_names_its_user(qemu_machine):
    told = []
    other = Machine(qemu_machine.image, qemu_machine.folder)
    with (
        pytest.raises(BoardError, match="is used by test_a_board_in_use"),
        other.using("x", timeout_s=0.1, waiting=told.append),
    ):
        pass
    assert len(told) == 1
    assert f"process {os.getpid()}" in told[0]
    assert other.status().user.startswith("test_a_board_in_use")


def test_state_of_a_dead_board_and_a_reused_process_id_are_no_board(tmp_path):
    machine = Machine(None, tmp_path)
    (tmp_path / vm.PID_FILE).write_text(f"{os.getpid()}\n")
    (tmp_path / "state.json").write_text('{"port": 1, "digest": "x", "mode": "x", "started": 0, "ready": true}')
    assert not machine.is_running()
    assert machine.status().pid is None
    machine.kill()
    machine.stop()
    with pytest.raises(BoardError, match="leakboard board build"):
        machine.boot()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"port": 1}', '{"pid": null}'])
def test_damaged_state_is_no_state(tmp_path, content):
    for name in ("state.json", "user.json", vm.PID_FILE):
        (tmp_path / name).write_text(content)
    status = Machine(None, tmp_path).status()
    assert (status.pid, status.port, status.user) == (None, None, None)


def test_a_damaged_disk_is_named_with_the_way_out_and_reset_mends_it(qemu_machine_of_the_run, tmp_path):
    folder = tmp_path / ("a folder, with a long name " + "x" * 100)
    machine = Machine(qemu_machine_of_the_run.image, folder)
    folder.mkdir()
    (folder / vm.DISK).write_bytes(bytes(1 << 20))
    with pytest.raises(BoardError, match="secure storage\nleakboard board reset"):
        machine.boot()
    assert not machine.is_running()
    machine.reset()
    try:
        machine.boot()
        assert machine.target().run(f"ls {STORE}").strip() == ""
    finally:
        machine.stop()
    assert not machine.is_running()
    shutil.rmtree(folder)
