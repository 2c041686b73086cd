"""A training step of DarkneTZ's VGG-7 on the real board: ``pytest tests/bench_board_training.py -s``. Asserts no time.

The same step with its last layers in the TEE and without a TEE, by process CPU time: emulated milliseconds, one
instruction a nanosecond, nobody's real ones. Beside them what DarkneTZ takes (Mo et al. 2020; its code measured for
``suite/reference_data``, tagged there). Random weights and images: what a step costs hardly depends on them.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from c_build import deploy_trainable
from darknetz_vgg7 import INPUT_SHAPE, DarknetzVgg7

from device.owner import OwnerKey
from device.qemu.board import QemuBoard
from device.training import TrainOptions
from suite.graph.export import export_graph

RUNS = {10: (3, (0, 1, 2, 3, 8)), 50: (1, (0, 3))}
"""For each size of a batch, how many steps are measured (the board counts instructions: they differ little) and what
is hidden."""
HIDDEN = {0: "none", 1: "fc10 to the end", 2: "fc64 to the end", 3: "last conv to the end", 8: "all"}
"""How many layers with parameters are in the TEE. The last three layers as DarkneTZ counts them (fc10, softmax, cost)
are k = 1; three layers with parameters are k = 3."""
REFERENCE = Path(__file__).parents[1] / "suite" / "reference_data" / "darknetz_on_qemu.csv"


def published():
    """Lines of the reference about training this network, as text."""
    lines = [line for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    rows = csv.DictReader(lines)
    return [row for row in rows if row["network"] == "vgg7" and "train" in row["what"]]


def test_step(qemu_machine_of_the_run, tmp_path):
    torch.manual_seed(0)
    graph = export_graph(DarknetzVgg7().eval(), INPUT_SHAPE, softmax=True)
    rng = np.random.default_rng(0)
    board = QemuBoard(folder=qemu_machine_of_the_run.folder)
    layers = graph.parameter_nodes()
    print(f"\n{'batch':>5}  {'in the TEE':24}{'ms':>10}{'in TA ms':>10}{'ratio':>8}{'TA bytes':>10}")
    for batch, (rounds, cuts) in RUNS.items():
        images = rng.standard_normal((batch, *INPUT_SHAPE)).astype(np.float32)
        labels = rng.integers(0, 10, batch)
        vanilla = 0.0
        for k in cuts:
            first = graph.nodes.index(layers[-k]) if 0 < k < len(layers) else (0 if k else len(graph.nodes))
            folder = tmp_path / f"{batch}-{k}"
            folder.mkdir()
            files = deploy_trainable(folder, graph, {node.name for node in graph.nodes[first:]}, OwnerKey.generate())
            with board.open(files) as session:
                training = session.train(TrainOptions(0.01, 0.9))
                steps = [training.step(images, labels) for _ in range(rounds + 1)][1:]
            total = float(np.median([step.total_ns for step in steps])) / 1e6
            inside = float(np.median([step.invoke_ns for step in steps])) / 1e6
            vanilla = vanilla or total
            ratio = total / vanilla
            print(
                f"{batch:5}  {HIDDEN[k]:24}{total:10.2f}{inside:10.2f}{ratio:8.3f}{training.tee_bytes:10}", flush=True
            )
    for row in published():
        print(f"DarkneTZ: {row}")
