"""``tests/c/run_kernels.c``: cases with PyTorch's answers for it, and its builds for this machine and for boards."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from device import build, cross
from suite.graph.packing import pack
from suite.graph.wire import Layout

SOURCE = build.ROOT / "tests/c/run_kernels.c"
KINDS = (
    *("conv2d", "depthwise", "linear", "batch_norm", "relu", "add"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "softmax"),
)
ATTRIBUTES = 16
ACTIVATIONS = (lambda x: x, torch.relu, F.relu6)
RELATIVE = 1e-4

LANES = {
    "NEON": (),
    "portable C": ("-DLB_PORTABLE",),
    "portable C, scalar": ("-DLB_PORTABLE", "-fno-tree-vectorize", "-fno-tree-slp-vectorize"),
    "vector extensions": ("-DLB_EXTENSIONS",),
}
"""The ways in which the kernels can be compiled, and the flags that make the compiler do so."""

SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a kernel. ``attributes`` as the C file reads them, arrays as the kernel takes them.

    ``expected``: PyTorch's answer, float32. ``macs``: multiply-accumulates, or outputs where there are none.
    """

    name: str
    kind: str
    attributes: tuple[int, ...]
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray]
    expected: torch.Tensor
    macs: int

    def pack(self, rounds: int) -> bytes:
        """What the program reads."""
        attributes = self.attributes + (0,) * (ATTRIBUTES - len(self.attributes))
        sizes = (*(array.size for array in self.arrays), self.expected.numel())
        head = np.array([KINDS.index(self.kind), rounds, *attributes, *sizes], "<u4")
        return head.tobytes() + b"".join(array.astype("<f4").tobytes() for array in self.arrays)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program wrote for one case: the median and the least CPU time of a round, and the outputs."""

    median_ns: int
    least_ns: int
    outputs: np.ndarray

    def check(self, case: Case) -> None:
        """Against PyTorch: relative to each value, and to the largest."""
        expected = case.expected.numpy().reshape(-1)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(self.outputs, expected, rtol=RELATIVE, atol=RELATIVE * scale, err_msg=case.name)


def read_answers(data: bytes, cases: Sequence[Case]) -> list[Answer]:
    """The program's output, one answer a case."""
    answers, at = [], 0
    for case in cases:
        median_ns, least_ns = np.frombuffer(data, "<u8", 2, at)
        answers.append(
            Answer(int(median_ns), int(least_ns), np.frombuffer(data, "<f4", case.expected.numel(), at + 16))
        )
        at += 16 + 4 * case.expected.numel()
    assert at == len(data)
    return answers


def build_for_boards(flags: Sequence[str] = ()) -> Path:
    """The program for Armv8 Linux; from the cache. The kernels' flags are those of agent and TA, and ``flags``."""
    return cross.build_program("run_kernels", [SOURCE, *build.part_sources("kernels")], flags)


def build_here(folder: Path, flags: Sequence[str]) -> Path:
    """The program for this machine with ``flags`` besides the usual ones, in ``folder``."""
    program = folder / "run_kernels"
    includes = [f"-I{build.ROOT / name}" for name in build.INCLUDES]
    files = map(str, (SOURCE, *build.part_sources("kernels")))
    command = [*build.find_compiler(), *build.FLAGS, *flags, *includes, *files, "-o", str(program)]
    subprocess.run(command, check=True)
    return program


class Cases:
    """Makes cases from one stream of random numbers: weights scaled so that outputs are of size 1."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def conv(
        self,
        channels: tuple[int, int],
        size: tuple[int, int],
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: tuple[int, int] = (1, 1),
        pad: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: int = 0,
        name: str = "",
    ) -> Case:
        """A convolution of ``channels`` (in, out); depth-wise when there are as many groups as channels in."""
        ic, oc = channels
        depthwise = groups == ic > 1
        x, b = self._of(ic, *size), self._of(oc)
        w = self._of(oc, ic // groups, *kernel, scale=(ic // groups * kernel[0] * kernel[1]) ** -0.5)
        y = ACTIVATIONS[activation](F.conv2d(x[None], w, b, stride, pad, dilation, groups)[0])
        attributes = (*x.shape, *y.shape, *kernel, *stride, *pad, *dilation, groups, activation)
        weight = pack(w.numpy(), Layout.PLAIN if depthwise else Layout.PACKED8, groups)
        macs = y.numel() * w[0].numel()
        kind = "depthwise" if depthwise else "conv2d"
        return Case(name or f"{kind} {attributes}", kind, attributes, (x.numpy(), weight, b.numpy()), y, macs)

    def linear(self, k: int, o: int, *, activation: int = 0, name: str = "") -> Case:
        """A matrix [o, k] times a vector."""
        x, w, b = self._of(k), self._of(o, k, scale=k**-0.5), self._of(o)
        arrays = (x.numpy(), pack(w.numpy(), Layout.PACKED8, 1), b.numpy())
        y = ACTIVATIONS[activation](F.linear(x, w, b))
        return Case(name or f"linear {k} {o}", "linear", (k, o, activation), arrays, y, k * o)

    def pool(self, kind: str, channels: int, size: tuple[int, int], kernel: int, stride: int, pad: int = 0) -> Case:
        """``max_pool2d`` or ``avg_pool2d``, padding counted."""
        x = self._of(channels, *size)
        y = getattr(F, kind)(x[None], kernel, stride, pad)[0]
        attributes = (channels, *size, *y.shape[1:], kernel, kernel, stride, stride, pad, pad, 1, 1, 1)
        return self._plain(f"{kind} {kernel}/{stride} of {channels}x{size[0]}x{size[1]}", kind, attributes, y, x)

    def elementwise(self, kind: str, n: int) -> Case:
        """``relu``, ``add`` (with ReLU), ``batch_norm`` (16 channels, with ReLU) or ``softmax`` of ``n`` elements."""
        x = self._of(n)
        if kind == "batch_norm":
            scale, shift = self._of(16), self._of(16)
            y = torch.relu(x.view(16, -1) * scale[:, None] + shift[:, None])
            return self._plain(f"{kind} of {n}", kind, (16, n // 16, 1), y, x, scale, shift)
        if kind == "add":
            other = self._of(n)
            return self._plain(f"{kind} of {n}", kind, (n, 1), torch.relu(x + other), x, other)
        return self._plain(f"{kind} of {n}", kind, (n,), torch.relu(x) if kind == "relu" else torch.softmax(x, 0), x)

    def _plain(self, name: str, kind: str, attributes: tuple[int, ...], y: torch.Tensor, *arrays: torch.Tensor) -> Case:
        padded: list[Any] = [array.numpy() for array in arrays] + [np.zeros(0, np.float32)] * (3 - len(arrays))
        return Case(name, kind, attributes, (padded[0], padded[1], padded[2]), y, y.numel())

    def _of(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator) * scale


def every_kind(seed: int = 0) -> list[Case]:
    """Small cases of every kernel, with every count of channels and pixels that a tile can be left with."""
    make = Cases(seed)
    cases = [
        make.conv((3, oc), (1, n), (1, 1), pad=(0, 0), activation=oc % 3) for oc in range(1, 34) for n in (1, 4, 7)
    ]
    cases += [make.conv((5, 17), (1, n), (1, 3), pad=(0, 1)) for n in range(1, 56)]
    geometries: tuple[tuple[tuple[int, int], tuple[int, int], dict[str, Any]], ...] = (
        ((7, 9), (3, 3), {}),
        ((8, 8), (3, 3), {"stride": (2, 2)}),
        ((9, 31), (5, 2), {"stride": (1, 3), "pad": (2, 1)}),
        ((14, 13), (3, 3), {"dilation": (2, 3), "pad": (3, 2)}),
        ((1, 1), (3, 3), {"pad": (1, 1)}),
        ((2, 2), (3, 3), {"pad": (1, 1)}),
        ((1, 2), (3, 3), {"pad": (1, 1)}),
        ((1, 1), (1, 1), {"stride": (2, 2), "pad": (1, 1)}),
        ((6, 6), (1, 1), {"pad": (0, 0)}),
        ((6, 40), (3, 3), {"pad": (0, 0)}),
        ((32, 32), (11, 11), {"stride": (4, 4), "pad": (5, 5)}),
        ((4, 3), (5, 5), {"pad": (5, 4)}),
    )
    for size, kernel, more in geometries:
        cases.append(make.conv((3, 9), size, kernel, activation=1, **more))
        cases.append(make.conv((6, 24), size, kernel, groups=3, **more))
        cases.append(make.conv((40, 16), size, kernel, activation=2, **more))
        cases.append(make.conv((4, 8), size, kernel, groups=4, activation=1, **more))
    cases += [make.linear(k, o, activation=k % 3) for k in (1, 2, 3, 4, 7, 64, 101) for o in (1, 8, 9, 24, 33, 64)]
    cases += [make.pool("max_pool2d", 3, (7, 9), k, s, k // 2 * (s % 2)) for k in (2, 3) for s in (1, 2, 3)]
    cases += [make.pool("avg_pool2d", 3, (7, 9), k, s, k // 2 * (s % 2)) for k in (2, 3) for s in (1, 2)]
    cases += [make.elementwise(kind, 160) for kind in ("relu", "add", "batch_norm", "softmax")]
    return cases
