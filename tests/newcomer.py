"""How long a newcomer waits from nothing to a row of an own defense: run as a program, prints the time of each step.

python tests/newcomer.py [--profile quick] [--victim vgg7] [--models CACHE]

The package is installed into a folder of its own; downloads are taken from the usual cache, while measurements and
compiled boards are made anew, in an empty one. So are models, unless --models names the cache of a leaderboard that is
there already: then victims and shadow models are taken from it, as they are when a row is added to it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from device.cache import cache_root

ROOT = Path(__file__).parents[1]
NAME = "mine"


def main() -> int:
    """Run the steps one after the other; 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--victim", default="vgg7")
    parser.add_argument("--models", type=Path, metavar="CACHE")
    options = parser.parse_args()
    data = cache_root() / "data"
    with tempfile.TemporaryDirectory(prefix="newcomer-") as name:
        folder = Path(name)
        (folder / "cache").mkdir()
        if data.is_dir():
            (folder / "cache" / "data").symlink_to(data)
        if options.models:
            trained = list((options.models / "store" / "entries").glob("model-*"))
            for entry in trained:
                shutil.copytree(entry, folder / "cache" / "store" / "entries" / entry.name)
            print(f"{len(trained)} models are there already", flush=True)
        env = {**os.environ, "LEAKBOARD_CACHE": str(folder / "cache"), "PYTHONPATH": str(folder / "site")}
        leakboard = [sys.executable, "-m", "suite.cli"]
        package, results = str(folder / NAME), str(folder / "results")
        install = ["install", "-q", "--no-deps", "--no-build-isolation", "--target", str(folder / "site"), package]
        cells = f"{options.victim} and {NAME}"
        steps = {
            "leakboard new": [*leakboard, "new", "defense", NAME, "-o", package],
            "pip install": [sys.executable, "-m", "pip", *install],
            "leakboard check": [*leakboard, "check", NAME],
            "pytest suite": [
                *(sys.executable, "-m", "pytest", "suite", "-k", cells, "--profile", options.profile),
                *("--results", results, "-p", "no:cacheprovider", "-q"),
            ],
        }
        whole = time.monotonic()
        for step, command in steps.items():
            began = time.monotonic()
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
            print(f"{time.monotonic() - began:8.1f} s  {step}", flush=True)
            if done.returncode:
                print(done.stdout[-4000:] + done.stderr[-4000:], file=sys.stderr)
                return 1
        print(f"{time.monotonic() - whole:8.1f} s  in all, {len(list(Path(results).rglob('*.json')))} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
