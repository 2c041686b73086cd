"""A real Ray cluster of two nodes, and ``pytest suite --ray``: interrupted, robbed of workers, then whole."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from ray_nodes import tasks_of, two_nodes, wait_for_task
from suite_runs import CELLS, MODELS, records, start, trained, wait_for

pytest.importorskip("ray", reason="Ray is not installed: pip install 'leakboard[cluster]'")
pytest_plugins = ["suite_cold"]


@pytest.fixture
def folder():
    """Short, since sockets lie in it."""
    made = Path(tempfile.mkdtemp(prefix="lb-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_interrupted_and_robbed_of_workers_the_records_are_those_of_one_machine(cold, folder):
    for cache in ("driver", "one", "two"):
        shutil.copytree(cold / "cache" / "build", folder / cache / "build")
    shared = folder / "shared" / "entries"

    with two_nodes(folder) as nodes:

        def begin(log):
            return start(
                *CELLS, "--plugin", cold / "tiny.py", "--ray", nodes.address, "--store", f"file://{folder}/shared",
                cache=folder / "driver", results=folder / "results", output=folder / log,
            )  # fmt: skip

        def said(log):
            return (folder / log).read_text()

        (second,) = nodes.worker_nodes

        # Ctrl-C, which a terminal sends to the whole group, once a model is there.
        first = begin("first")
        wait_for(lambda: list(shared.glob("model-*.json")) or first.poll() is not None, "a model", 300)
        assert first.poll() is None, said("first")
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(timeout=120) == 2, said("first")
        assert "the same command goes on from here" in said("first")
        assert "Traceback" not in said("first")
        wait_for(lambda: not tasks_of(second) + tasks_of(nodes.head_node), "end of the tasks", 60)
        done = len(list(shared.glob("model-*.json")))
        assert 1 <= done < MODELS

        # A worker is killed, then its whole node; not while the nodes are only asked whether they fit.
        again = begin("again")
        wait_for(lambda: "side by side" in said("again") or again.poll() is not None, "the training", 120)
        os.kill(wait_for_task(second, again, lambda: said("again")), signal.SIGKILL)
        wait_for(lambda: "its worker was lost" in said("again") or again.poll() is not None, "word of the loss", 120)
        wait_for_task(second, again, lambda: said("again"))
        nodes.remove_node(second, allow_graceful=False)
        assert again.wait(timeout=400) == 0, said("again")

    text = said("again")
    assert text.count("it is handed out again") == 2, text  # of each loss the task that was lost
    assert f"{MODELS - done}/{MODELS - done}  done in" in text
    assert records(folder / "results") == records(cold / "results")
    assert {name: model for name, (model, _) in trained(folder / "driver").items()} == {
        name: model for name, (model, _) in trained(cold / "cache").items()
    }
    assert trained(folder / "one")  # the second node is lost before it may have finished any
