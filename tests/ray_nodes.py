"""A Ray cluster of two nodes of one core each, on this machine, whose nodes have caches of their own."""

import contextlib
import os
import time
from pathlib import Path


@contextlib.contextmanager
def two_nodes(folder, caches=("one", "two")):
    """The address of a Ray cluster of as many nodes of one core as there are ``caches``, each its node's own."""
    os.environ |= {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    (folder / "ray").mkdir(exist_ok=True)  # where Ray writes its address, and expects a folder
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(shutdown_at_exit=True)
    try:
        for cache in caches:
            shared = {"LEAKBOARD_DATA": os.environ["LEAKBOARD_DATA"]} if "LEAKBOARD_DATA" in os.environ else {}
            nodes.add_node(
                num_cpus=1,
                object_store_memory=80 << 20,
                temp_dir=str(folder) if nodes.head_node is None else None,
                include_dashboard=False,
                env_vars={"LEAKBOARD_CACHE": str(folder / cache), **shared},
            )
        yield nodes
    finally:
        nodes.shutdown()


def raylet_of(node):
    """The process that starts a node's workers."""
    return node.all_processes["raylet"][0].process.pid


def tasks_of(node):
    """Processes of a node that are at a task now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet_of(node) and (folder / "cmdline").read_text().startswith("ray::leakboard_task"):
                found.append(int(folder.name))
        except OSError:
            continue  # ended meanwhile
    return found


def wait_for_task(node, process, said, seconds=240.0):
    """The process of a task that ``node`` is at, while ``process`` is at work."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if found := tasks_of(node):
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no task on the node, {'still' if process.poll() is None else 'no longer'} at work: {said()}")
