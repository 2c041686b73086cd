"""ResNet-20, the CIFAR form."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.layers import InputShape, check_shape, start_kaiming
from victims.recipe import Recipe


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to their input (He et al. 2016, Figure 5 left).

    Where the shape changes, the shortcut is a 1x1 convolution with batch norm (the paper's option B):
    option A would need striding slices and padded channels, which boards do not have.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to [N, out, H / stride, W / stride]."""
        deep = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        y: torch.Tensor = self.relu2(deep + self.shortcut(x))
        return y


@victim("resnet20", recipe=Recipe(learning_rate=0.1, epochs_factor=0.5, channels_last=True))
class ResNet20(nn.Module):
    """Three stages of three blocks: 272,474 parameters for 3x32x32 and 10 classes.

    He et al. 2016, "Deep Residual Learning for Image Recognition", Section 4.2.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape("resnet20", input_shape, n_classes, least=4)
        self.stem = nn.Sequential(
            nn.Conv2d(input_shape[0], 16, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        channels = 16
        for out, stride in ((16, 1), (32, 2), (64, 2)):
            blocks += [
                BasicBlock(channels, out, stride),
                BasicBlock(out, out, 1),
                BasicBlock(out, out, 1),
            ]
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, n_classes)
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        features = self.pool(self.blocks(self.stem(images)))
        logits: torch.Tensor = self.classifier(self.flatten(features))
        return logits
