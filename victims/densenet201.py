"""DenseNet-201, for its cost."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.layers import InputShape, check_shape, padding_up_to, start_kaiming

GROWTH = 32


class DenseLayer(nn.Module):
    """Batch norm, ReLU, 1x1 convolution to 128 maps, the same again with a 3x3 one to 32; joined to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * GROWTH, kernel_size=1, bias=False),
            nn.BatchNorm2d(4 * GROWTH),
            nn.ReLU(),
            nn.Conv2d(4 * GROWTH, GROWTH, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to [N, channels + 32, H, W]."""
        return torch.cat([x, self.body(x)], dim=1)


def _transition(channels: int) -> nn.Sequential:
    """Half the channels, half the maps' size."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels // 2, kernel_size=1, bias=False),
        nn.AvgPool2d(2),
    )


@victim("densenet201", recipe=None)
class DenseNet201(nn.Module):
    """Four blocks of 6, 12, 48 and 32 layers: 20,013,928 parameters for 3x224x224 and 1000 classes.

    Huang et al. 2017, "Densely Connected Convolutional Networks", Table 1, growth rate 32; one of the large models
    whose cost Mo et al. (DarkneTZ, MobiSys 2020) measure. Images below 32x32 are framed by zeros (the first
    convolution's padding).
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape("densenet201", input_shape, n_classes, least=8)
        channels, height, width = input_shape
        pad = (3 + padding_up_to(height, 32), 3 + padding_up_to(width, 32))
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=pad, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = 64
        for block, count in enumerate((6, 12, 48, 32)):
            if block:
                layers.append(_transition(channels))
                channels //= 2
            for _ in range(count):
                layers.append(DenseLayer(channels))
                channels += GROWTH
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.flatten(self.pool(self.features(images))))
        return logits
