"""The body that Darknet's convolutional networks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from victims.layers import InputShape, check_shape, start_kaiming

POOL = "pool"
Layer = tuple[int, int] | str
"""(output channels, kernel size) of a convolution, or ``POOL``."""


def convolution(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Darknet's convolutional layer: no bias, batch norm, leaky ReLU of slope 0.1; padding keeps the maps' size."""
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.LeakyReLU(0.1),
    )


class Darknet(nn.Module):
    """Convolutions and 2x2 poolings, then a 1x1 convolution to the classes and an average over the maps.

    ``layers`` gives what stands between ``first`` (the layers that begin the network, which leave ``channels`` maps)
    and the end: ``end`` "conv" averages what the 1x1 convolution makes, "leaky" puts a leaky ReLU between them, and
    "pool" averages first. Pooling rounds up, as Darknet's padding by one does, so images of any size do.
    """

    def __init__(
        self, name: str, first: Sequence[nn.Module], channels: int, layers: Sequence[Layer], input_shape: InputShape,
        n_classes: int, end: Literal["conv", "leaky", "pool"] = "conv",
    ) -> None:  # fmt: skip
        super().__init__()
        check_shape(name, input_shape, n_classes, least=8)
        body = list(first)
        for layer in layers:
            if isinstance(layer, str):
                body.append(nn.MaxPool2d(2, ceil_mode=True))
            else:
                body.append(convolution(channels, *layer))
                channels = layer[0]
        self.features = nn.Sequential(*body)
        pool, classes = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, n_classes, kernel_size=1)
        ends: dict[str, list[nn.Module]] = {
            "conv": [classes, pool],
            "leaky": [classes, nn.LeakyReLU(0.1), pool],
            "pool": [pool, classes],
        }
        self.classifier = nn.Sequential(*ends[end], nn.Flatten())
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
