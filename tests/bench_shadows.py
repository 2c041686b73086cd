"""Many shadow models at once: one after another, as one stacked model by torch.func, and in processes; steps a second.

``python tests/bench_shadows.py [--victim alexnet] [--models 4] [--steps 20]`` trains the same models on the same
batches each way, in turns within one run, and prints the time of a model's step and the ratio to one after another.
Every way computes the same losses, which is checked.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from suite.deploying import untrained_victim
from suite.registry import discover

RATE, BATCH, CLASSES = 0.01, 64, 10


def data(models: int, steps: int) -> tuple[Tensor, Tensor]:
    """Batches of noise, another for each model: [models, steps, BATCH, 3, 32, 32] and their labels."""
    draw = np.random.default_rng(0)
    images = draw.standard_normal((models, steps, BATCH, 3, 32, 32)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(draw.integers(0, CLASSES, (models, steps, BATCH)))


def alone(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Train one model by plain gradient descent, step by step; the last loss."""
    module.train()
    loss = torch.zeros(())
    for image, label in zip(images, labels, strict=True):
        module.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(module(image), label)
        loss.backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= RATE * parameter.grad
    return float(loss.detach())


def one_by_one(modules: list[nn.Module], images: Tensor, labels: Tensor) -> list[float]:
    return [alone(module, *given) for module, *given in zip(modules, images, labels, strict=True)]


def ensemble(modules: list[nn.Module], images: Tensor, labels: Tensor) -> list[float]:
    """All of them as one model whose parameters have one more dimension."""
    parameters, buffers = stack_module_state(modules)
    parameters = {name: value.detach() for name, value in parameters.items()}
    base = copy.deepcopy(modules[0]).to("meta")

    def loss_of(own: dict[str, Tensor], kept: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(base, (own, kept), (image,)), label)

    step = vmap(grad_and_value(loss_of), randomness="different")
    losses = torch.zeros(len(modules))
    for at in range(images.shape[1]):
        gradients, losses = step(parameters, buffers, images[:, at], labels[:, at])
        parameters = {name: value - RATE * gradients[name] for name, value in parameters.items()}
    return [float(loss) for loss in losses]


def _begin() -> None:
    torch.set_num_threads(1)


def timed(way: Callable[..., list[float]], modules: list[nn.Module], *given: Tensor) -> tuple[float, list[float]]:
    """Wall seconds and losses."""
    own = copy.deepcopy(modules)
    began = time.perf_counter()
    losses = way(own, *given)
    return time.perf_counter() - began, losses


def main() -> None:
    """Print one line a way."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--victim", default="alexnet")
    options.add_argument("--models", type=int, default=4)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--turns", type=int, default=3)
    chosen = options.parse_args()
    discover()
    _begin()
    # Of one and the same start, each a copy: how fast a step is does not depend on the weights.
    first = untrained_victim(chosen.victim, (3, 32, 32), CLASSES).module.train()
    modules = [copy.deepcopy(first) for _ in range(chosen.models)]
    images, labels = data(chosen.models, chosen.steps)
    best: dict[str, float] = {}
    with multiprocessing.get_context("spawn").Pool(chosen.processes, _begin) as pool:

        def processes(own: list[nn.Module], *given: Tensor) -> list[float]:
            return pool.starmap(alone, zip(own, *given, strict=True), chunksize=1)

        ways = {"one by one": one_by_one, "torch.func ensemble": ensemble, f"{chosen.processes} processes": processes}
        expected = one_by_one(copy.deepcopy(modules), images, labels)
        for _ in range(chosen.turns):
            for name, way in ways.items():
                seconds, losses = timed(way, modules, images, labels)
                np.testing.assert_allclose(losses, expected, rtol=2e-3)
                best[name] = min(best.get(name, seconds), seconds)
    for name, seconds in best.items():
        each = 1e3 * seconds / (chosen.models * chosen.steps)
        print(f"{name}: {each:.1f} ms a step of a model, {best['one by one'] / seconds:.2f} times one by one")


if __name__ == "__main__":
    main()
