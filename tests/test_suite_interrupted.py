"""Ctrl-C and kill -9 in the middle of ``pytest suite``: the next run goes on and ends with the same records."""

import os
import re
import shutil
import signal
import time

import pytest
from suite_runs import CELLS, MODELS, processes_of, records, run, start, trained, wait_for

pytest_plugins = ["suite_cold"]

CTRL_C_S = 60.0
"""After that it hangs; on a quiet machine it is 3 s, on one with ten others at work 11 s were seen."""


@pytest.fixture
def site(cold, tmp_path):
    """A cache in which only the C side is built."""
    shutil.copytree(cold / "cache" / "build", tmp_path / "cache" / "build")
    return tmp_path


class Disturbed:
    """A run in the background."""

    def __init__(self, cold, site, *more, **env):
        self.cache, self.log = site / "cache", site / "log"
        self.arguments = (*CELLS, "--plugin", cold / "tiny.py", *more)
        self.process = start(*self.arguments, cache=self.cache, results=site / "results", output=self.log, **env)

    def wait_for_models(self, n):
        wait_for(lambda: len(trained(self.cache)) >= n or self.process.poll() is not None, f"{n} trained models")
        assert self.process.poll() is None, self.log.read_text()

    def wait_for_file(self, path):
        wait_for(lambda: path.exists() or self.process.poll() is not None, path.name)
        assert self.process.poll() is None, self.log.read_text()

    def interrupt(self):
        """Ctrl-C, which a terminal sends to the cold group; the seconds until the end, and what was said."""
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=2 * CTRL_C_S)
        return time.monotonic() - began, self.log.read_text()

    def nothing_remains(self):
        wait_for(lambda: not processes_of(self.cache), "end of all processes", 10)


def test_interrupted_and_killed_again_and_again(cold, site):
    """Ctrl-C while training, kill -9 of the main process while training, Ctrl-C in a cell; then to the end."""
    first = Disturbed(cold, site)
    first.wait_for_models(1)
    seconds, said = first.interrupt()
    assert first.process.returncode == 2, said
    assert seconds < CTRL_C_S
    assert "Traceback" not in said
    assert "leaked" not in said
    assert "KeyboardInterrupt" in said
    assert "the same command goes on from here" in said
    first.nothing_remains()
    kept = trained(site / "cache")
    assert 1 <= len(kept) < MODELS

    second = Disturbed(cold, site)
    second.wait_for_models(len(kept) + 1)
    second.process.kill()
    second.process.wait()
    second.nothing_remains()
    more = trained(site / "cache")
    assert kept.items() <= more.items()
    assert len(more) < MODELS

    held = site / "held"
    third = Disturbed(cold, site, LEAKBOARD_TEST_HOLD=str(held))
    third.wait_for_file(held)
    seconds, said = third.interrupt()
    assert third.process.returncode == 2, said
    assert seconds < CTRL_C_S
    assert "INTERNALERROR" not in said
    assert set(re.findall(r"^  \d/(\d)  ", said, re.M)) == {str(MODELS - len(more))}
    third.nothing_remains()
    all_models = trained(site / "cache")
    assert more.items() <= all_models.items()
    assert {name: model for name, (model, _) in all_models.items()} == {
        name: model for name, (model, _) in trained(cold / "cache").items()
    }

    done = run(*CELLS, "--plugin", cold / "tiny.py", cache=site / "cache", results=site / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    assert records(site / "results") == records(cold / "results")
    assert trained(site / "cache") == all_models


def test_ctrl_c_on_two_workers(cold, site):
    disturbed = Disturbed(cold, site, "-n", "2")
    disturbed.wait_for_models(1)
    seconds, said = disturbed.interrupt()
    assert disturbed.process.returncode == 2, said
    assert seconds < 2 * CTRL_C_S  # pytest-xdist waits for its workers
    assert "Traceback" not in said
    disturbed.nothing_remains()
