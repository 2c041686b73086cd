"""DarkneTZ's VGG-7 on the real board, agent and TA: ``pytest tests/bench_board_darknetz.py -s``. Asserts no time.

Beside ours stands what DarkneTZ itself takes on such a board (Mo et al. 2020; its code measured for
``suite/reference_data``, tagged there). Both count instructions, one a nanosecond: emulated milliseconds, nobody's real
ones. Random weights: what a query costs does not depend on them.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from c_build import deploy
from darknetz_vgg7 import INPUT_SHAPE, MACS, DarknetzVgg7

from device.qemu.board import QemuBoard
from suite.graph.export import export_graph
from suite.graph.macs import graph_macs

ROUNDS = 15
REFERENCE = Path(__file__).parents[1] / "suite" / "reference_data" / "darknetz_on_qemu.csv"
HIDDEN = {0: "none", 1: "last fc+softmax+cost", 2: "fc64 to the end", 4: "two last convs to the end", 8: "all"}
"""How many layers with parameters are in the TEE, and what the published row is called."""


def published():
    """Milliseconds of DarkneTZ's -O2 build, by what is in the TEE."""
    lines = [line for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if (row["network"], row["what"]) == ("vgg7", "inference")]
    return {row["layers_in_tee"]: float(row["value"]) for row in rows}


def test_vgg7(qemu_machine_of_the_run, tmp_path):
    torch.manual_seed(0)
    graph = export_graph(DarknetzVgg7().eval(), INPUT_SHAPE, softmax=True)
    assert graph_macs(graph) == MACS
    image = np.random.default_rng(0).standard_normal(INPUT_SHAPE).astype(np.float32)
    board, theirs, ours = QemuBoard(folder=qemu_machine_of_the_run.folder), published(), {}
    layers = graph.parameter_nodes()
    for k in HIDDEN:
        first = graph.nodes.index(layers[-k]) if 0 < k < len(layers) else (0 if k else len(graph.nodes))
        (tmp_path / str(k)).mkdir()
        files = deploy(tmp_path / str(k), graph, {node.name for node in graph.nodes[first:]})
        with board.open(files) as session:
            session.time(image, 3)
            ours[k] = session.time(image, ROUNDS)
    print(f"\n{'in the TEE':28}{'ms':>8}{'REE':>8}{'TEE':>8}{'switch':>8}{'ratio':>8}{'DarkneTZ ms':>13}{'times':>7}")
    for k, name in HIDDEN.items():
        total, invoke = np.median(ours[k].total_ns) / 1e6, np.median(ours[k].invoke_ns) / 1e6
        switch = np.median(ours[k].noop_ns) / 1e6 if k else 0.0
        ratio = total / (np.median(ours[0].total_ns) / 1e6)
        print(
            f"{name:28}{total:8.3f}{total - invoke:8.3f}{invoke - switch:8.3f}{switch:8.3f}{ratio:8.3f}"
            f"{theirs[name]:13.2f}{theirs[name] / total:7.1f}"
        )
