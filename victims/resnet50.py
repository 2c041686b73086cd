"""ResNet-50, for its cost."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.layers import InputShape, check_shape, start_kaiming


def _convolution(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm, added to their input (He et al. 2016, Figure 5 right)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce = _convolution(channels, width, 1, stride)
        self.relu1 = nn.ReLU()
        self.conv = _convolution(width, width, 3)
        self.relu2 = nn.ReLU()
        self.expand = _convolution(width, 4 * width, 1)
        self.shortcut = nn.Sequential()
        if channels != 4 * width:
            self.shortcut = _convolution(channels, 4 * width, 1, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to [N, 4 * width, H / stride, W / stride]."""
        deep = self.expand(self.relu2(self.conv(self.relu1(self.reduce(x)))))
        y: torch.Tensor = self.relu3(deep + self.shortcut(x))
        return y


@victim("resnet50", recipe=None)
class ResNet50(nn.Module):
    """Four stages of 3, 4, 6 and 3 bottlenecks: 25,557,032 parameters for 3x224x224 and 1000 classes.

    He et al. 2016, "Deep Residual Learning for Image Recognition", Table 1, with the stride in a stage's first 1x1
    convolution; one of the large models whose cost Mo et al. (DarkneTZ, MobiSys 2020) measure.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape("resnet50", input_shape, n_classes, least=8)
        self.stem = nn.Sequential(_convolution(input_shape[0], 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        blocks: list[nn.Module] = []
        channels = 64
        for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
            for i in range(count):
                blocks.append(Bottleneck(channels, width, 2 if i == 0 and width > 64 else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.flatten(self.pool(self.blocks(self.stem(images)))))
        return logits
