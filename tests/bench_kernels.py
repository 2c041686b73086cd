"""C against PyTorch, one thread each, side by side: ``pytest tests/bench_kernels.py -s``. Asserts no time.

The ratio (PyTorch's median over the emulated board's; above 1 the C side is faster) is printed and stands in
the benchmark's ``extra_info``. Both take turns, so that what else the machine does meets them alike; the
board's time is its own clock's, without the way through Python.
"""

import time

import numpy as np
import pytest
import torch
from c_build import deploy

from device.emulated import EmulatedBoard
from suite.graph.export import export_graph
from victims.inference import one_thread
from victims.task import build_model

ROUNDS = {"alexnet": 100, "resnet20": 60, "vgg16": 12}


@pytest.mark.parametrize("victim", ROUNDS)
def test_c_and_pytorch_side_by_side(benchmark, tmp_path, victim):
    model = build_model(victim, (3, 32, 32), 10).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    files = deploy(tmp_path, export_graph(model, (3, 32, 32), softmax=True), set())
    torch_ns, board_ns = [], []
    with EmulatedBoard().open(files) as session, one_thread(), torch.inference_mode():

        def both() -> None:
            start = time.perf_counter_ns()
            torch.softmax(model(image), 1)
            torch_ns.append(time.perf_counter_ns() - start)
            board_ns.append(int(session.time(image[0].numpy(), 1).total_ns[0]))

        benchmark.pedantic(both, rounds=ROUNDS[victim], warmup_rounds=3)
    torch_us, board_us = np.median(torch_ns) / 1e3, np.median(board_ns) / 1e3
    benchmark.extra_info.update(torch_us=torch_us, board_us=board_us, torch_over_board=torch_us / board_us)
    print(f"\n{victim}: PyTorch {torch_us:.0f} us, C {board_us:.0f} us, ratio {torch_us / board_us:.2f}")


def test_one_empty_call_into_the_secure_world(benchmark, tmp_path):
    model = build_model("alexnet", (3, 32, 32), 10).eval()
    graph = export_graph(model, (3, 32, 32), softmax=True)
    image = np.zeros((3, 32, 32), np.float32)
    with EmulatedBoard().open(deploy(tmp_path, graph, {node.name for node in graph.nodes[-2:]})) as session:
        times = benchmark.pedantic(lambda: session.time(image, 1), rounds=10)
    median_us = float(np.median(times.noop_ns)) / 1e3
    benchmark.extra_info["noop_us"] = median_us
    print(f"\nan empty TEE call, there and back: {median_us:.1f} us")
