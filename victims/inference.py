"""What a trained model answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside, and on as many as before afterwards.

    Sums are split by the number of threads, so results in the last bits depend on it. With one, they are
    the same on every number of cores; parallelism comes from running several models at once.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def logits(model: nn.Module, images: NDArray[np.float32], batch: int = 128) -> NDArray[np.float32]:
    """Logits [N, n_classes] of ``images`` [N, C, H, W], ``batch`` at a time.

    Runs on the device that holds ``model``, in eval mode, and leaves ``model`` in the mode it was in.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    training = model.training
    model.eval()
    parts = []
    try:
        with one_thread(), torch.inference_mode():
            for start in range(0, max(len(images), 1), batch):
                # a copy: torch warns about arrays that must not be written, such as memory-mapped ones
                part = torch.tensor(images[start : start + batch], device=device)
                parts.append(model(part).float().cpu().numpy())
    finally:
        model.train(training)
    return np.concatenate(parts)


def predict(model: nn.Module, images: NDArray[np.float32], batch: int = 128) -> NDArray[np.float32]:
    """Probabilities [N, n_classes] of ``images`` [N, C, H, W].

    The softmax is computed in float64: in float32, an overfitted model's wrong classes would round to 0 or
    its right one to 1 more often than need be, and attacks read just those digits.
    """
    values = logits(model, images, batch).astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return values.astype(np.float32)
