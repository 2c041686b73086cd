"""The body that VGG-11 and VGG-16 share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from victims.layers import InputShape, check_shape, padding_up_to, start_kaiming


class VGG(nn.Module):
    """VGG with batch norm and one linear layer, the form used on CIFAR (Simonyan and Zisserman 2015).

    ``stages`` gives the output channels of the 3x3 convolutions between the five 2x2 pools. Images below
    32x32 are framed by zeros (the first convolution's padding), so that all five pools have something to
    pool; larger ones leave maps that an average pool brings to 1x1, so that the linear layer always takes
    512 features.
    """

    def __init__(self, name: str, stages: Sequence[Sequence[int]], input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape(name, input_shape, n_classes, least=4)
        channels, height, width = input_shape
        pad = (1 + padding_up_to(height, 32), 1 + padding_up_to(width, 32))
        layers: list[nn.Module] = []
        for stage in stages:
            for out in stage:
                layers += [
                    nn.Conv2d(channels, out, kernel_size=3, padding=1 if layers else pad),
                    nn.BatchNorm2d(out),
                    nn.ReLU(),
                ]
                channels = out
            layers.append(nn.MaxPool2d(2))
        if height >= 64 or width >= 64:
            layers.append(nn.AdaptiveAvgPool2d(1))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(images)))
        return logits
