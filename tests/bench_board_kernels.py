"""Kernels on the real board in emulated time: ``pytest tests/bench_board_kernels.py -s``. Asserts no time.

The same C files compiled in four ways (``LANES`` in ``kernel_program.py``), all with the flags that agent and TA have
(``device/cross.py``, ``ta/sub.mk``): NEON; the portable C, which GCC vectorises by itself; the portable C with that
switched off; and vector extensions. Every answer is compared with PyTorch's.

The board counts time in instructions, one a nanosecond: ``us`` is the median of the process's CPU time, and
instructions per multiply-accumulate come from the round that the kernel's timer disturbed least. They are no
Cortex-A53's cycles. For layers without multiply-accumulates, it is instructions per output.
"""

import subprocess

import torch
from darknetz_vgg7 import DarknetzVgg7
from kernel_program import LANES, Answer, Case, Cases, build_for_boards, read_answers

from suite.graph.export import export_graph
from suite.graph.ir import Op
from suite.graph.macs import node_macs
from victims.task import build_model

ROUNDS = 9
IMAGE = (3, 32, 32)
LEAST_MACS = 1_000_000
"""Layers of AlexNet and VGG-16 below it are left out."""


def layers_of(model: torch.nn.Module, name: str, least_macs: int = 0) -> list[Case]:
    """A case for each shape of convolution, linear layer and max pool in ``model``."""
    graph, make, cases = export_graph(model.eval(), IMAGE, softmax=True), Cases(0), {}
    for node in graph.nodes:
        shape, macs = graph.shapes[node.inputs[0]], node_macs(graph, node)
        if macs < least_macs:
            continue
        if node.op is Op.CONV2D:
            a, (out, _, *kernel) = node.attrs, node.weights["weight"].shape
            case = make.conv(
                (shape[0], out),
                (shape[1], shape[2]),
                (kernel[0], kernel[1]),
                stride=(a["stride_h"], a["stride_w"]),
                pad=(a["pad_h"], a["pad_w"]),
                activation=1,
                name=f"{name} conv {shape[0]}-{out} {kernel[0]}x{kernel[1]} on {shape[1]}x{shape[2]}",
            )
        elif node.op is Op.LINEAR:
            o, k = node.weights["weight"].shape
            case = make.linear(k, o, name=f"{name} linear {k}-{o}")
        elif node.op is Op.MAX_POOL2D:
            case = make.pool("max_pool2d", shape[0], (shape[1], shape[2]), 2, 2)
        else:
            continue
        cases[f"{node.name} {case.name}"] = case
    return list(cases.values())


def without_repetition(cases: list[Case]) -> list[Case]:
    """One case of each shape."""
    return list({case.name: case for case in cases}.values())


def measure(machine, cases: list[Case]) -> dict[str, list[Answer]]:
    """Answers of every build, compared with PyTorch's."""
    target, answers = machine.target(), {}
    for lanes, flags in LANES.items():
        target.put(build_for_boards(flags), "/tmp/run_kernels", 0o755)
        answers[lanes] = []
        for case in cases:
            command = target.command("/tmp/run_kernels")
            done = subprocess.run(command, input=case.pack(ROUNDS), capture_output=True, timeout=300)
            assert done.returncode == 0, done.stderr.decode(errors="replace")
            (answer,) = read_answers(done.stdout, [case])
            answer.check(case)
            answers[lanes].append(answer)
    return answers


def show(cases: list[Case], answers: dict[str, list[Answer]]) -> None:
    """A table: for each build its time, its instructions per multiply-accumulate, and how much slower than NEON."""
    print("\n" + " " * 34 + "".join(f"{lanes:>28}" for lanes in answers))
    print(" " * 34 + f"{'us':>12}{'/MAC':>8}{'ratio':>8}" * len(answers))
    for number, case in enumerate(cases):
        row = [answers[lanes][number] for lanes in answers]
        cells = (
            f"{one.median_ns / 1e3:12.1f}{one.least_ns / case.macs:8.3f}{one.median_ns / row[0].median_ns:8.2f}"
            for one in row
        )
        print(f"{case.name:34}" + "".join(cells))


def test_larger_layers_of_the_victims(qemu_machine):
    cases = [c for v in ("alexnet", "vgg16") for c in layers_of(build_model(v, IMAGE, 10), v, LEAST_MACS)]
    make = Cases(1)
    cases += [make.linear(512, 512, name="linear 512-512"), make.linear(4096, 1024, name="linear 4096-1024")]
    cases = without_repetition(cases)
    show(cases, measure(qemu_machine, cases))


def test_the_layers_of_darknetz_vgg7(qemu_machine):
    cases = layers_of(DarknetzVgg7(), "vgg7")
    answers = measure(qemu_machine, cases)
    show(cases, answers)
    for lanes, row in answers.items():
        print(f"all of them, {lanes}: {sum(one.median_ns for one in row) / 1e6:.3f} emulated ms")


def test_the_small_kernels(qemu_machine):
    make = Cases(2)
    cases = [make.elementwise(kind, 16384) for kind in ("relu", "add", "batch_norm")]
    cases += [make.elementwise("softmax", n) for n in (10, 1000)]
    cases += [make.pool("max_pool2d", 64, (16, 16), 2, 2), make.pool("max_pool2d", 64, (15, 15), 3, 2)]
    cases += [make.pool("avg_pool2d", 64, (16, 16), 2, 2)]
    cases += [make.conv((64, 64), (16, 16), groups=64, name="depthwise 64 on 16x16")]
    cases += [make.conv((64, 64), (16, 16), groups=64, stride=(2, 2), name="depthwise 64 on 16x16, stride 2")]
    show(cases, measure(qemu_machine, cases))
