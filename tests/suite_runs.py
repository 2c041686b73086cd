"""Running ``pytest suite`` as a user does, in processes of its own, on a victim that trains in two seconds."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]

PLUGINS = '''
"""Plugins for tests: a small victim, an attack that reads weights, one that can be held up."""
import os, time
import numpy as np
from torch import nn
from suite import Attack, Goal, Guess, View
from suite.registry import attack, victim
from victims.recipe import Recipe

@victim("tinynet", recipe=Recipe(learning_rate=0.02, epochs_factor=1.5))
class TinyNet(nn.Module):
    """One convolution and one linear layer."""
    def __init__(self, input_shape, n_classes):
        super().__init__()
        channels, height, width = input_shape
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Linear(4 * -(-height // 2) * -(-width // 2), n_classes)
    def forward(self, images):
        return self.classifier(self.features(images))

@attack("peek", goal=Goal.MEMBERSHIP, needs={View.WEIGHTS})
class Peek(Attack):
    """A stand-in for white-box attacks (Nasr et al. 2019)."""
    def infer(self, observation):
        return Guess(np.arange(len(observation.labels), dtype=float), threshold=0.0)

@attack("dawdle", goal=Goal.MEMBERSHIP, needs={View.OUTPUT})
class Dawdle(Attack):
    """Takes as long as a test wants."""
    def infer(self, observation):
        hold = os.environ.get("LEAKBOARD_TEST_HOLD")
        if hold:
            open(hold, "w").close()
            time.sleep(60)
        return Guess(np.arange(len(observation.labels), dtype=float), threshold=0.0)
'''


CELLS = ("--victims", "tinynet", "--defenses", "vanilla,darknetz[k=1]", "--attacks", "dawdle", "--seeds", "0,1")
MODELS = 6  # one victim and two shadows a seed


def environment(cache, **more):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "LEAKBOARD_"))}
    return {**ours, "LEAKBOARD_CACHE": str(cache), **more}


def command(*arguments, results):
    """The command line of a run on digits; later options win."""
    fixed = ("--profile", "smoke", "--results", str(results), "-p", "no:cacheprovider")
    what = () if arguments[0].endswith(".py") else ("suite",)
    return [sys.executable, "-m", "pytest", *what, *fixed, *map(str, arguments)]


def run(*arguments, cache, results, timeout_s=240, **env):
    """Run to the end; has ``returncode``, ``stdout``, ``stderr``."""
    return subprocess.run(
        command(*arguments, results=results),
        cwd=ROOT,
        env=environment(cache, **env),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def start(*arguments, cache, results, output, **env):
    """Start as leader of a process group, as a shell does; both streams go to the file ``output``."""
    with output.open("w") as stream:
        return subprocess.Popen(
            command(*arguments, results=results),
            cwd=ROOT,
            env=environment(cache, **env),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(condition, what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still no {what}"
        time.sleep(0.05)


def processes_of(cache):
    """Command lines of all processes that work with this cache."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"LEAKBOARD_CACHE={cache}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # ended meanwhile, or not ours
    return [line for line in found if line]  # a zombie has no command line


def in_one_process(runs, *, cache, folder, **env):
    """Run ``pytest`` on each list of arguments in turn; (exit status, standard output, standard error) of each."""
    script = folder / "runs.py"
    script.write_text(
        "import json, sys, pytest\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    status = int(pytest.main(arguments))\n"
        "    for stream in (sys.stdout, sys.stderr):\n"
        "        print(f'\\n@@{status}', file=stream, flush=True)\n"
    )
    lines = [command(*arguments, results=folder / "results")[3:] for arguments in runs]
    done = subprocess.run(
        [sys.executable, script, json.dumps(lines)],
        cwd=ROOT,
        env=environment(cache, PYTHONPATH=str(ROOT), **env),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out, err = (text.split("\n@@") for text in (done.stdout, done.stderr))
    statuses = [int(part.partition("\n")[0]) for part in out[1:]]
    outs, errs = ([part.partition("\n")[2] if i else part for i, part in enumerate(parts)][:-1] for parts in (out, err))
    assert len(statuses) == len(outs) == len(errs) == len(runs), done.stdout + done.stderr
    return list(zip(statuses, outs, errs, strict=True))


def once(tmp_path_factory, name, make):
    """A folder that ``make(folder)`` filled, once for all workers of pytest-xdist; nobody may change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not (folder / "made").exists():
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


def records(results):
    """Everything in the records that must not differ between runs, by cell; raw scores by their hash."""
    found = {}
    for path in sorted(results.glob("*/*.json")):
        record = json.loads(path.read_text())
        for changing in ("created_utc", "seconds", "attempts"):
            record["provenance"].pop(changing, None)
        if record["latency"] is not None:
            record["latency"], record["scores"]["sha256"] = record["latency"]["rounds"], None
        found[path.stem] = record
    return found


def trained(cache):
    """Bytes and time of every trained model, by store entry."""
    models = sorted((cache / "store" / "entries").glob("model-*/model.pt"))
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in models}
