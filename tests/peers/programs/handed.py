"""What a peer is handed, and how it hands back its scores. Runs in the peers' environment: no suite here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

BATCH = 250

asking: list[float] = []
"""Wall seconds of every call of a model that was handed over."""


class Probabilities(torch.nn.Module):
    """An exported model and its softmax, in float64 as the suite's own: a peer reads the same digits as we do."""

    def __init__(self, exported: Path) -> None:
        super().__init__()
        self.ask = torch.export.load(exported).module()

    def train(self, mode: bool = True) -> Probabilities:
        """It is exported as it answers, in eval mode; tools may ask for either."""
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] to float32 [N, n_classes]."""
        began = time.perf_counter()
        answers = torch.softmax(self.ask(images.float()).double(), dim=1).float()
        asking.append(time.perf_counter() - began)
        return answers


def ask(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Answers [N, n_classes], in batches."""
    with torch.inference_mode():
        parts = [model(torch.tensor(images[i : i + BATCH])) for i in range(0, len(images), BATCH)]
    return torch.cat(parts).numpy()


class Clock:
    """Wall and processor time of what runs inside ``running``."""

    seconds = cpu_seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        began, cpu_began = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began


def main(attacks: dict[str, Callable[[Path, Clock], np.ndarray]]) -> None:
    """``program ATTACK FOLDER RESULT``: run one attack on what lies in the folder, write scores and times."""
    name, folder, result = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the tools draw from it)
    clock = Clock()
    scores = np.asarray(attacks[name](folder, clock), dtype=np.float64).reshape(-1)
    np.savez(result, scores=scores, seconds=[clock.seconds, clock.cpu_seconds, sum(asking)])


def load(folder: Path) -> dict[str, np.ndarray]:
    """All arrays that were handed over."""
    return load_file(folder / "handed.npz")


def load_file(file: Path) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}
