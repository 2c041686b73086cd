"""Kill the QEMU board again and again while the suite runs on it: ``python tests/pull_the_plug.py [--times 10]``.

No finished record may be lost or damaged, and the runs must end with every cell measured, equal to a run in peace. A
cell that is hit twice fails and is measured by the next run, as a user would do. Takes some minutes; not collected.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from suite_runs import ROOT, records, run, start

sys.path.insert(0, str(ROOT))

from device.qemu import vm
from suite.records import read_record, read_scores

DEFENSES = "vanilla,darknetz[k=1],darknetz[k=2,output=probs],full_tee"
CELLS = ("--board", "qemu", "--victims", "vgg7", "--defenses", DEFENSES, "--attacks", "loss_threshold,shadow")
PATIENCE_S = 1800


def whole(results):
    """Names of the records that can be read, with their raw scores; a damaged one raises."""
    found = {}
    for path in sorted(results.glob("*/*.json")):
        record = read_record(path)
        read_scores(results, record)
        found[path.name] = record
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--times", type=int, default=10)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, help="cache and results; kept (default: a temporary folder)")
    asked = options.parse_args()
    draw = random.Random(asked.seed)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="leakboard-plug-"))
    folder.mkdir(parents=True, exist_ok=True)
    cache, peace, war = folder / "cache", folder / "peace", folder / "war"
    os.environ["LEAKBOARD_CACHE"] = str(cache)
    board = cache / "board" / "qemu"

    began = time.monotonic()
    shutil.rmtree(war, ignore_errors=True)
    done = run(*CELLS, cache=cache, results=peace, timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"in peace: {len(whole(peace))} records in {time.monotonic() - began:.0f} s, trainings included")
    # What the board answered is kept in the store: a fresh one, but for the trained models, makes it run again.
    for entry in (cache / "store" / "entries").glob("evaluation-*"):
        for file in entry.iterdir():
            file.unlink()
        entry.rmdir()

    killed, runs, seen = 0, 0, {}
    while killed < asked.times or set(seen) != set(whole(peace)):
        runs += 1
        assert runs <= asked.times + 2, "the runs do not come to an end"
        process = start(*CELLS, cache=cache, results=war, output=folder / f"run{runs}.log")
        next_kill = time.monotonic() + draw.uniform(5, 60)
        while process.poll() is None:
            time.sleep(0.1)
            if killed < asked.times and time.monotonic() > next_kill:
                pid = vm.find(board)
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    now = whole(war)
                    lost = set(seen) - set(now)
                    assert not lost, f"records lost: {lost}"
                    seen = now
                    print(f"killed QEMU, time {killed}, with {len(seen)} records finished")
                next_kill = time.monotonic() + draw.uniform(20, 60)
        now = whole(war)
        assert set(seen) <= set(now), f"records lost: {set(seen) - set(now)}"
        seen = now
        print(f"run {runs} ended with status {process.returncode} and {len(seen)} records")

    last = run(*CELLS, cache=cache, results=war, timeout_s=PATIENCE_S)
    assert last.returncode == 0, last.stdout + last.stderr
    ours, theirs = records(war), records(peace)
    for record in (*ours.values(), *theirs.values()):
        record["provenance"].pop("incidents")
    assert ours == theirs, "records differ from those of a run in peace"
    hurt = [json.loads(path.read_text())["provenance"]["incidents"] for path in war.glob("*/*.json")]
    print(last.stdout[last.stdout.find("leaderboard") :][:4000])
    print(f"killed {killed} times in {runs} runs: {len(ours)} records, equal to those of a run in peace;")
    print(f"{sum(map(bool, hurt))} of them name a lost board among their incidents")


if __name__ == "__main__":
    main()
