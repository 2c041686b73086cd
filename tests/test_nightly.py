"""A night: its state, journal, lock and health, and one on the emulated board that gets stuck and is gone on with."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from suite_runs import PLUGINS, wait_for

from device.board import BoardError
from device.cache import cache_root
from device.emulated import EmulatedBoard
from suite import cli
from suite.nightly import journal
from suite.nightly.child import end_orphan
from suite.nightly.folders import HEALTH, JOURNAL, SUMMARY, NightError
from suite.nightly.health import FIELDS, ailments, ask, nothing_known, read_health
from suite.nightly.lock import board_lock
from suite.nightly.night import Night, read_night
from suite.nightly.running import take
from suite.nightly.sampling import Sampler

PI = """temperature=51540
throttled=0x50005
hertz=1400000000
khz=1200000
most_khz=1400000
governor=performance
free=655360
total=926724
load=0.42
optee= revision 4.5 (abcdef12)
time={now}
"""


def test_a_pi_is_read_from_what_its_shell_says():
    found = ask(lambda command: PI.format(now=int(time.time()) + 100))
    assert (found.temperature_c, found.throttled, found.cpu_mhz, found.cpu_max_mhz) == (51.54, "0x50005", 1400, 1400)
    assert found.throttled_now == "under-voltage, throttled"  # and not what was so since it booted
    assert (found.governor, found.memory_free_mib, found.load_1min) == ("performance", 640, 0.42)
    assert found.optee == "4.5 (abcdef12)"
    assert 98 < found.clock_skew_s < 102
    assert not found.unknown


def test_what_a_board_does_not_tell_is_none_with_the_reason():
    found = ask(lambda command: "temperature=hot\nfree=100000\n")
    assert found.temperature_c is None
    assert "thermal" in found.unknown["temperature_c"]
    assert "vcgencmd" in found.unknown["throttled"]
    assert found.memory_free_mib == pytest.approx(97.66, abs=0.01)
    assert set(found.unknown) == set(FIELDS) - {"memory_free_mib"}


def test_the_emulated_board_has_this_machines_health_and_no_tee():
    found = read_health(EmulatedBoard())
    assert found.memory_total_mib > 100
    assert found.optee is None
    assert found.unknown["optee"] == "an emulated board has none"


def test_an_unhealthy_board_is_refused_by_what_ails_it():
    found = ask(lambda command: PI.format(now=0))
    hot, power, memory = ailments(found, 50.0, 700.0)
    assert "51.5 C, allowed 50 C" in hot
    assert "under-voltage, throttled (0x50005)" in power
    assert "640 MiB of memory are free, 700 must be" in memory
    assert ailments(nothing_known("it is off"), 50.0, 700.0) == []


def test_samples_go_to_a_file_and_a_board_that_does_not_answer_is_told(tmp_path):
    answers = iter([nothing_known("paused")])

    def read():
        try:
            return next(answers)
        except StopIteration:
            raise BoardError("the board is\ngone") from None

    with Sampler(tmp_path, read, 0.01) as sampler:
        while sampler.taken < 2:
            time.sleep(0.01)
    header, first, second, *_ = (tmp_path / HEALTH).read_text().splitlines()
    assert header.startswith("at_utc,temperature_c,")
    assert first.endswith(",paused")
    assert second.endswith(",the board is gone")


def test_a_journal_survives_a_line_cut_in_half(tmp_path):
    path = tmp_path / JOURNAL
    journal.append(path, "begun", cell="a")
    with path.open("ab") as stream:
        stream.write(b'{"event": "ended", "ce')
    events, offset = journal.read(path)
    assert [event["cell"] for event in events] == ["a"]
    journal.append(path, "begun", cell="b")
    events, _ = journal.read(path, offset)
    assert [event["cell"] for event in events] == ["b"]


def test_a_cell_that_failed_and_then_did_not_is_done():
    night = Night("qemu", "2026-01-01", {}, "now", cells=["a", "b"])
    failed = {"event": "ended", "cell": "a", "record": False, "failed": True, "reason": "board lost"}
    assert take(night, failed)
    assert (night.done, night.failed, night.missing) == ([], {"a": "board lost"}, ["a", "b"])
    assert take(night, {**failed, "record": True, "failed": False, "reason": ""})
    assert (night.done, night.failed, night.missing) == (["a"], {}, ["b"])
    assert take(night, {**failed, "cell": "b", "record": True, "reason": "off PyTorch's"})
    assert (night.done, night.failed, night.missing) == (["a", "b"], {"b": "off PyTorch's"}, [])


def test_one_night_a_board_and_what_a_killed_one_leaves_is_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    script = (
        "import sys, time; from pathlib import Path; from suite.nightly.lock import board_lock\n"
        "with board_lock('qemu', Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "night")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(NightError, match=f"on board qemu already: process {holder.pid}, since 20"):
        board_lock("qemu", tmp_path / "night").__enter__()
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "other"))
    with pytest.raises(NightError, match="another cache"):
        board_lock("qemu", tmp_path / "night").__enter__()
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    holder.kill()
    holder.wait()
    with board_lock("qemu", tmp_path / "night"):
        pass
    holder.stdout.close()


def test_only_this_nights_own_orphan_is_killed(tmp_path):
    mine, others = (
        subprocess.Popen(["sleep", "60"], env={**os.environ, journal.ENV: str(path)}, start_new_session=True)
        for path in (tmp_path / JOURNAL, tmp_path / "other")
    )
    try:
        for process in (mine, others):  # a program that has only just begun has no environment to be read yet
            wait_for(Path(f"/proc/{process.pid}/environ").read_bytes, "environment")
        assert end_orphan(mine.pid, tmp_path / JOURNAL)
        assert mine.wait(10) == -9
        assert not end_orphan(others.pid, tmp_path / JOURNAL)
        assert not end_orphan(mine.pid, tmp_path / JOURNAL)
        assert others.poll() is None
    finally:
        others.kill()
        others.wait()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "which board? --board emulated"),
        (("--board", "quemu"), "did you mean qemu"),
        (("--board", "emulated", "--date", "2026-02-30"), "write a date as 2026-01-31"),
        (
            ("--board", "emulated", "--min-free-mib", "1e9", "--wait-healthy", "0.0001"),
            "1e+09 must be (--min-free-mib)",
        ),
    ],
)
def test_a_night_that_cannot_begin_says_why(arguments, what, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEAKBOARD_CACHE", str(tmp_path / "cache"))
    assert cli.main(["nightly", "--folder", str(tmp_path), *arguments]) == 1
    assert what in capsys.readouterr().err


def test_a_night_gets_stuck_and_is_gone_on_with(tmp_path, monkeypatch, capsys):
    """Two calls on the emulated board: a cell that hangs is killed and tells; the next call measures the rest alone."""
    plugins = tmp_path / "plugins.py"
    plugins.write_text(PLUGINS)
    (cache_root() / "build").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "build").symlink_to(cache_root() / "build")  # what is compiled need not be again
    for name, value in (("CACHE", tmp_path / "cache"), ("TEST_HOLD", tmp_path / "held")):
        monkeypatch.setenv(f"LEAKBOARD_{name}", str(value))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    home = tmp_path / "nights"
    cells = ("--victims", "tinynet", "--defenses", "vanilla", "--attacks", "dawdle,loss_threshold", "-k", "not latency")
    call = ["nightly", "--board", "emulated", "--profile", "smoke", "--folder", str(home), "--plugin", str(plugins)]
    call += [*cells, "--date", "2026-01-01", "--sample-every", "1"]

    assert cli.main([*call, "--stuck-after", "0.2", "--max-attempts", "1"]) == 4
    folder = home / "emulated" / "2026-01-01"
    night = read_night(folder)
    assert (night.state, len(night.cells)) == ("failed", 2)
    assert "killed" in night.attempts[0]["ended_by"]
    held = "tinynet-digits-vanilla-dawdle-emulated"
    assert held in night.missing
    assert "**failed**" in (folder / SUMMARY).read_text()
    assert (tmp_path / "step.md").read_text() == (folder / SUMMARY).read_text()
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("smoke/*.json")}

    assert cli.main([*call, "--seeds", "1"]) == 1
    assert "was begun with other options: seeds was '0', is '1'" in capsys.readouterr().err

    monkeypatch.delenv("LEAKBOARD_TEST_HOLD")
    assert cli.main(call) == 0
    night = read_night(folder)
    assert (night.state, night.missing, night.failed) == ("finished", [], {})
    assert len(night.attempts) == 2
    assert len(night.resumed_utc) == 1
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    events = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    measured = [event["cell"] for event in events if event["event"] == "ended" and event["record"]]
    assert sorted(measured) == sorted(night.cells)
    assert not (tmp_path / "cache" / "nightly" / "emulated").exists() or not any(
        (tmp_path / "cache" / "nightly" / "emulated").iterdir()
    )
    capsys.readouterr()
    assert cli.main(call) == 0
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert len(read_night(folder).attempts) == 2
