"""AlexNet for small images, as membership inference papers attack it."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.layers import InputShape, check_shape, padding_up_to, start_kaiming
from victims.recipe import Recipe


@victim("alexnet", recipe=Recipe(learning_rate=0.02, epochs_factor=0.5, channels_last=True))
class AlexNet(nn.Module):
    """Five convolutions and one linear layer: 2,472,266 parameters for 3x32x32 and 10 classes.

    The CIFAR form of Krizhevsky et al. 2012 that Nasr et al. (S&P 2019) and DarkneTZ (Mo et al., MobiSys
    2020) attack. Images below 32x32 are framed by zeros (the first convolution's padding); 64x64 leaves
    maps of 2x2, so the linear layer takes 1,024 features instead of 256.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape("alexnet", input_shape, n_classes, least=4)
        channels, height, width = input_shape
        pad = (5 + padding_up_to(height, 32), 5 + padding_up_to(width, 32))
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=pad),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        maps = [((size + 2 * p - 11) // 4 + 1) // 8 for size, p in zip((height, width), pad, strict=True)]
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(256 * maps[0] * maps[1], n_classes)
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(images)))
        return logits
