"""How much faster two nodes of one core train shadows than one single-core worker: ``python tests/bench_ray.py``.

Both train the shadow models of one victim into an empty store; Ray's nodes are started before the clock is, their
worker processes are not. Wants a quiet machine of two cores or more.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ray_nodes import two_nodes

from device.cache import cache_root
from suite import pool, progress
from suite.cluster import Cluster
from suite.models import Role, TrainJob
from suite.profiles import PROFILES, get_profile
from suite.registry import discover
from suite.store import Store


def timed(what, store, jobs, workers):
    began = time.perf_counter()
    pool.ensure(store, jobs, workers=workers)
    seconds = time.perf_counter() - began
    print(f"{what}: {len(jobs)} shadows in {seconds:.1f} s", flush=True)
    return seconds


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--victim", default="alexnet")
    options.add_argument("--profile", default="quick", choices=sorted(PROFILES))
    options = options.parse_args()
    discover()
    profile = get_profile(options.profile)
    dataset = profile.datasets[0]
    jobs = [TrainJob(options.victim, dataset, profile, 0, Role.SHADOW, index) for index in range(profile.shadows)]
    jobs[0].material()  # fetched and split before any clock runs
    folder = Path(tempfile.mkdtemp(prefix="lb-bench-"))
    try:
        for cache in ("one", "two"):
            if (cache_root() / "data").is_dir():  # a node would fetch the data set for itself
                shutil.copytree(cache_root() / "data", folder / cache / "data")
        with two_nodes(folder) as nodes, progress.sink(progress.to_stderr):
            store = Store(folder / "driver", f"file://{folder}/shared")
            engine = Cluster(nodes.address, store)
            try:
                both = timed("two nodes of one core", store, jobs, engine)
            finally:
                engine.close()
        with progress.sink(progress.to_stderr):
            one = timed("one worker of one core", Store(folder / "alone"), jobs, 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = one / both
    print(f"two nodes are {ratio:.2f} times as fast (to reach: 1.6); {len(os.sched_getaffinity(0))} cores here")
    return 0 if ratio >= 1.6 else 1


if __name__ == "__main__":
    sys.exit(main())
