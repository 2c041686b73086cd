"""Gradient norms of single images against a plain loop of backward passes, in turns within one run.

``python tests/bench_gradients.py [--victim alexnet] [--images 1000] [--batch 64]`` prints the ratio of the times, the
largest relative difference of the norms, and the largest memory of the process after each.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch

from suite.deploying import untrained_victim
from suite.graph.per_sample import per_sample
from suite.graph.trainable import TrainableGraph
from suite.registry import discover

_TURNS = 10


def looped(model: TrainableGraph, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Norms of the gradients of all parameters, image by image: [N, parameters]."""
    rows = []
    answer = model.graph.outputs[0]
    for image, label in zip(images, labels, strict=True):
        model.zero_grad(set_to_none=True)
        logits = model({"image": torch.tensor(image[None])})[answer]
        torch.nn.functional.cross_entropy(logits, torch.tensor([label])).backward()
        rows.append([float(parameter.grad.norm()) for parameter in model.parameters()])
    return np.array(rows)


def main() -> None:
    """Print one line a method."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--victim", default="alexnet")
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--batch", type=int, default=64)
    chosen = options.parse_args()
    discover()
    torch.set_num_threads(1)
    victim = untrained_victim(chosen.victim, (3, 32, 32), 10)
    whole = victim.graph
    below = type(whole)(whole.inputs, whole.nodes[-1].inputs, whole.nodes[:-1], whole.shapes)
    model = TrainableGraph(below)
    draw = np.random.default_rng(0)
    images = draw.standard_normal((chosen.images, 3, 32, 32)).astype(np.float32)
    labels = draw.integers(0, 10, chosen.images)
    seconds = {"gram": 0.0, "loop": 0.0}
    memory = {}
    error = 0.0
    for part in np.array_split(np.arange(chosen.images), min(_TURNS, chosen.images)):
        began = time.process_time()
        found = per_sample(whole, {"image": images[part]}, labels[part], batch=chosen.batch)
        seconds["gram"] += time.process_time() - began
        memory.setdefault("gram", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        began = time.process_time()
        expected = looped(model, images[part], labels[part])
        seconds["loop"] += time.process_time() - began
        memory.setdefault("loop", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        ours = (found.layers[:, :, :2] * found.scale[:, None, None]).reshape(len(part), -1)
        error = max(error, float((np.abs(ours - expected) / expected.max(axis=1, keepdims=True)).max()))
    for name, taken in seconds.items():
        print(f"{name}: {taken:.2f} s of CPU for {chosen.images} images of {chosen.victim}, {memory[name]:.0f} MiB")
    print(f"{seconds['loop'] / seconds['gram']:.1f} times as fast; norms differ by at most {error:.1e} of the largest")


if __name__ == "__main__":
    main()
