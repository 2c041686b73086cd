"""Five nights on the QEMU board: ``python tests/five_nights.py [--folder DIR] [--board qemu]``.

The second night's power is cut (SIGKILL to the night and to QEMU), the third has a defense that gives away more, on the
fourth the board gets stuck (SIGSTOP to QEMU), which the cell itself must notice, and later the process that measures
(SIGSTOP), which the night must notice; the fifth has a defense that is slower. What must come out: both regressions
named on their night and nowhere else, no record lost, changed or measured twice. Not collected.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from suite_runs import ROOT

sys.path.insert(0, str(ROOT))

from device.qemu import vm
from suite.nightly.folders import JOURNAL
from suite.nightly.journal import read as read_journal
from suite.nightly.night import read_night
from suite.records import read_record, read_scores

VICTIM = '''
"""A victim that learns its members by heart: triangle waves of random projections, and a trained layer on top."""
import torch
from torch import nn
from suite.registry import victim
from victims.recipe import Recipe

WAVES, KNEES = 192, 8

@victim("crammer", recipe=Recipe(learning_rate=0.05, epochs_factor=1.0))
class Crammer(nn.Module):
    """Two fixed linear layers and one that is trained."""
    def __init__(self, input_shape, n_classes):
        super().__init__()
        size = input_shape[0] * input_shape[1] * input_shape[2]
        self.flat, self.bends = nn.Flatten(), nn.ReLU()
        self.spread, self.fold = nn.Linear(size, WAVES * KNEES), nn.Linear(WAVES * KNEES, WAVES)
        self.answer = nn.Linear(WAVES, n_classes)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            projections = torch.randn(WAVES, size, generator=generator) / size**0.5  # a wave bends once a deviation
            self.spread.weight.copy_(projections.repeat_interleave(KNEES, 0))
            self.spread.bias.copy_((KNEES / 2 - torch.arange(KNEES)).repeat(WAVES))
            wave = torch.tensor([1.0] + [2.0 * (-1) ** k for k in range(1, KNEES)])
            self.fold.weight.copy_(torch.block_diag(*[wave[None]] * WAVES) * 3)
            self.fold.bias.fill_(-1.5)
        for layer in (self.spread, self.fold):
            layer.requires_grad_(False)
    def forward(self, images):
        return self.answer(self.fold(self.bends(self.spread(self.flat(images)))))
'''

GUARDED = '''
"""A defense whose version is injected: what it lets out, and how much needless work it does in the TEE."""
from suite import Defense, Deployment, OutputPolicy, Victim, defense, split
from suite.graph.ir import Graph, Node, Op
from dataclasses import replace

POLICY, NEEDLESS = "{policy}", {needless}

@defense("guarded")
class Guarded(Defense):
    """All from the second layer on in the TEE (after Mo et al. 2020)."""
    def deploy(self, victim: Victim) -> Deployment:
        graph = victim.graph
        place = next(i for i, node in enumerate(graph.nodes) if node.op is Op.RELU)
        first, last = graph.nodes[place], graph.nodes[place].output
        shapes, added = dict(graph.shapes), []
        for i in range(NEEDLESS):  # a ReLU of what a ReLU gave changes nothing, and takes its time
            added.append(Node(f"needless{{i}}", Op.RELU, (last,), f"again{{i}}", first.layer))
            last = f"again{{i}}"
            shapes[last] = shapes[first.output]
        rest = [
            replace(node, inputs=tuple(last if name == first.output else name for name in node.inputs))
            for node in graph.nodes[place + 1 :]
        ]
        whole = Graph(graph.inputs, graph.outputs, (*graph.nodes[: place + 1], *added, *rest), shapes)
        return Deployment(split(whole, in_tee={{n.name for n in (*added, *rest)}}), OutputPolicy.parse(POLICY))
'''
USUAL, LEAKY, SLOW = ("top1", 0), ("probs", 0), ("top1", 200)
DATES = [f"2026-03-0{day}" for day in range(1, 6)]
PATIENCE_S = 3600


class Nights:
    """A folder of nights, and how they are called."""

    def __init__(self, folder, board, stuck_min):
        self.stuck_min = stuck_min
        self.home, self.board = folder / "nights", board
        self.cache = Path(os.environ.get("LEAKBOARD_CACHE") or folder / "cache")
        self.victim, self.guarded = folder / "crammer.py", folder / "guarded.py"
        self.victim.write_text(VICTIM)
        self.env = {**os.environ, "LEAKBOARD_CACHE": str(self.cache)}
        self.env.pop("GITHUB_STEP_SUMMARY", None)

    def start(self, date, version):
        policy, needless = version
        self.guarded.write_text(GUARDED.format(policy=policy, needless=needless))
        what = ("--profile", "smoke", "--victims", "crammer", "--defenses", "guarded,darknetz[k=1]")
        plugins = ("--plugin", self.victim, "--plugin", self.guarded, "--attacks", "loss_threshold")
        limits = ("--stuck-after", self.stuck_min, "--sample-every", 5, "--folder", self.home, "--date", date)
        command = ["nightly", "--board", self.board, *what, *plugins, *limits]
        with (self.home.parent / f"{date}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "suite.cli", *map(str, command)], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )

    def run(self, date, version):
        """To its end; its status."""
        return self.start(date, version).wait(PATIENCE_S)

    def of(self, date):
        return self.home / self.board / date

    def events(self, date, kind):
        return [event for event in read_journal(self.of(date) / JOURNAL)[0] if event["event"] == kind]

    def machine(self):
        """The process id of QEMU, or None."""
        return vm.find(self.cache / "board" / "qemu")

    def wait_for(self, condition, process, what):
        until = time.monotonic() + PATIENCE_S
        while not condition():
            assert process.poll() is None, f"the night ended (status {process.returncode}) before {what}"
            assert time.monotonic() < until, f"still no {what}"
            time.sleep(0.05)

    def records(self, date):
        """Hashes of all records, which must be whole."""
        found = {}
        for path in sorted((self.of(date) / "smoke").glob("*.json")):
            read_scores(self.of(date), read_record(path))
            found[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def cut_power(self, date, version):
        """Kill the night and its board once the first cell is measured and the second is under way."""
        process = self.start(date, version)
        self.wait_for(lambda: len(self.events(date, "begun")) > 1, process, "second cell")
        before = self.records(date)
        assert before, "the first cell has no record"
        process.kill()
        if (machine := self.machine()) is not None:
            os.kill(machine, signal.SIGKILL)
        process.wait()
        print(f"  power cut with {len(before)} cells measured (QEMU {machine} killed)", flush=True)
        return before

    def get_stuck(self, date, version):
        """Stop the board's process in the first cell, then what measures in the second; the night's status."""
        process = self.start(date, version)

        def on_the_board():
            return self.events(date, "begun") and self.machine() and not self.events(date, "ended")

        self.wait_for(on_the_board, process, "cell on a running board")
        stopped = self.machine()
        os.kill(stopped, signal.SIGSTOP)
        print(f"  board stopped (QEMU {stopped})", flush=True)
        self.wait_for(lambda: len(self.events(date, "begun")) > 1, process, "second cell")
        assert self.machine() != stopped, "the first cell ended on a board that was stopped"
        os.kill(read_night(self.of(date)).attempts[-1]["pid"], signal.SIGSTOP)
        print(f"  back as QEMU {self.machine()}; measuring process stopped", flush=True)
        return process.wait(PATIENCE_S)


def check(nights, date, status, expected):
    """Print what the night says, and hold it against ``expected``: the figures that must be named, by cell."""
    night = read_night(nights.of(date))
    log = (nights.home.parent / f"{date}.log").read_text()
    assert night is not None, f"{date}: status {status}\n{log}"
    assert night.verdict is not None, f"{date}: status {status}\n{log}"
    changes = night.verdict["changes"]
    for one in changes:
        print(f"  {one['kind']}: {one['cell']}: {one['figure']}: {one['before']} -> {one['now']} (p {one['p']})")
    assert status == (3 if expected else 0), f"{date}: status {status}"
    assert (night.state, night.missing, night.failed) == ("finished", [], {}), night
    named = {(one["cell"], one["figure"]) for one in changes if one["kind"] != "improvement"}
    assert expected <= named, f"{date}: {expected - named} not named"
    assert all("-guarded-" in cell for cell, _ in named), f"{date}: false alarm in {named}"
    assert expected or not named, f"{date}: false alarm {named}"
    assert set(nights.records(date)) == set(night.cells)
    assert len(night.cells) == 4
    measured = Counter(event["cell"] for event in nights.events(date, "ended") if event["record"])
    assert set(measured.values()) == {1}, f"{date}: measured twice: {measured}"
    return night


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--folder", type=Path, help="kept (default: a temporary folder)")
    options.add_argument("--board", default="qemu")
    options.add_argument(
        "--stuck-after", type=float, default=2.5, metavar="MIN", help="more on a busy machine (default: %(default)s)"
    )
    asked = options.parse_args()
    folder = (asked.folder or Path(tempfile.mkdtemp(prefix="leakboard-nights-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    nights, began = Nights(folder, asked.board, asked.stuck_after), time.monotonic()
    leak = f"crammer-digits-guarded-loss_threshold-{asked.board}"
    time_of = f"crammer-digits-guarded-latency-{asked.board}"
    kept = {}

    def report(date, what):
        print(f"{date}: {what} ({time.monotonic() - began:.0f} s since the begin)", flush=True)

    report(DATES[0], "a quiet night")
    check(nights, DATES[0], nights.run(DATES[0], USUAL), set())
    report(DATES[1], "a power cut")
    before = nights.cut_power(DATES[1], USUAL)
    night = check(nights, DATES[1], nights.run(DATES[1], USUAL), set())
    assert before.items() <= nights.records(DATES[1]).items(), "a record was lost or measured again"
    assert len(night.resumed_utc) == 1
    report(DATES[2], "a defense that gives away more")
    check(nights, DATES[2], nights.run(DATES[2], LEAKY), {(leak, "auc")})
    report(DATES[3], "a board that gets stuck")
    status = nights.get_stuck(DATES[3], USUAL) if asked.board == "qemu" else nights.run(DATES[3], USUAL)
    night = check(nights, DATES[3], status, set())
    print(f"  attempts ended by: {[one['ended_by'] for one in night.attempts]}")
    assert asked.board != "qemu" or len(night.attempts) == 2
    kept = {date: nights.records(date) for date in DATES[:4]}
    report(DATES[4], "a defense that is slower")
    night = check(nights, DATES[4], nights.run(DATES[4], SLOW), {(time_of, "latency ratio")})
    assert not any(one["leakage"] for one in night.verdict["changes"])
    assert kept == {date: nights.records(date) for date in DATES[:4]}, "a record of an earlier night changed"
    assert nights.machine() is None, "a board was left running"
    total = sum(len(nights.records(date)) for date in DATES)
    report("all", f"{total} records in five nights, none lost or doubled; both regressions named, no false alarm")


if __name__ == "__main__":
    main()
