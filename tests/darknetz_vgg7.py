"""DarkneTZ's VGG-7 in PyTorch, for comparing the two: the layers of its ``vgg-7_cifar10.cfg``."""

from __future__ import annotations

import torch
from torch import nn

MACS = 7_553_664
"""Multiply-accumulates for one image."""
INPUT_SHAPE = (3, 32, 32)


class DarknetzVgg7(nn.Module):
    """VGG-7 of Mo et al. 2020 (MobiSys): six 3x3 convolutions, two linear layers; logits of 10 classes for 3x32x32.

    Interpretation: ReLU after every layer but the last. The softmax at its end is added where a model is exported.
    """

    def __init__(self) -> None:
        super().__init__()
        channels, layers = INPUT_SHAPE[0], []
        for out in (16, 32, 32):
            for _ in range(2):
                layers += [nn.Conv2d(channels, out, kernel_size=3, padding=1), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, 10] of float32 [N, 3, 32, 32]."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
