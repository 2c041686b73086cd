"""Adversarial examples made on a stolen model, to be tried on the deployment."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import nn

from suite.model import LabelledImages
from victims.data import Normaliser
from victims.inference import one_thread

EPSILON_GREY, EPSILON_COLOUR = 76.5, 8.0
STEPS = 10
BATCH = 50


def epsilon_of(input_shape: tuple[int, int, int]) -> float:
    """How far a pixel value (0 to 255) may be moved: 0.3 of the range for grey images, 8 for colour.

    What Madry et al. 2018 allow on MNIST (section 5) and on CIFAR-10.
    """
    return EPSILON_GREY if input_shape[0] == 1 else EPSILON_COLOUR


def fgsm(module: nn.Module, images: LabelledImages, normaliser: Normaliser, epsilon: float) -> NDArray[np.float32]:
    """One step of ``epsilon`` against the gradient's sign (Goodfellow et al. 2015, section 4); as ``pgd``."""
    return pgd(module, images, normaliser, epsilon, steps=1, rate=1.0)


def pgd(
    module: nn.Module,
    images: LabelledImages,
    normaliser: Normaliser,
    epsilon: float,
    steps: int = STEPS,
    rate: float = 0.25,
) -> NDArray[np.float32]:
    """Images near ``images`` that ``module`` takes for something else than their labels, if it can be had.

    Projected gradient ascent of the cross-entropy (Madry et al. 2018, section 2.1), from the image itself, in steps of
    ``rate`` times ``epsilon``. ``epsilon`` is the largest change of a pixel value on the scale from 0 to 255 that
    images have before ``normaliser``; values stay on that scale. Float32 [N, C, H, W], normalised.
    """
    std = torch.tensor(normaliser.std, dtype=torch.float32).reshape(-1, 1, 1)
    mean = torch.tensor(normaliser.mean, dtype=torch.float32).reshape(-1, 1, 1)
    reach, darkest, brightest = epsilon / 255 / std, -mean / std, (1 - mean) / std
    found = []
    with one_thread():
        for start in range(0, len(images), BATCH):
            first = torch.tensor(images.images[start : start + BATCH])
            labels = torch.tensor(images.labels[start : start + BATCH])
            low, high = torch.maximum(first - reach, darkest), torch.minimum(first + reach, brightest)
            moved = first
            for _ in range(steps):
                moved = moved.detach().requires_grad_(True)
                loss = F.cross_entropy(module(moved), labels, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, moved)
                moved = torch.clamp(moved + rate * reach * gradient.sign(), low, high)
            found.append(moved.detach().numpy())
    return np.concatenate(found) if found else images.images[:0]
