"""VGG-7, the network of the layer-exposure study."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.layers import InputShape, check_shape, start_kaiming
from victims.recipe import Recipe


@victim("vgg7", recipe=Recipe(learning_rate=0.02, epochs_factor=0.72, channels_last=True))
class VGG7(nn.Module):
    """16C3-16C3-MP-32C3-32C3-MP-32C3-32C3-MP-64FC-10SM: 68,634 parameters for 3x32x32 and 10 classes.

    From Mo et al., "Towards Characterizing and Limiting Information Exposure in DNN Layers" (CCS 2019
    poster), which gives this line and no more. Interpretation: padding of 1 keeps the maps' size, every
    layer but the last is followed by a ReLU, there is no batch norm, and the softmax belongs to the loss.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        super().__init__()
        check_shape("vgg7", input_shape, n_classes, least=8)
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for out in (16, 32, 32):
            for _ in range(2):
                layers += [nn.Conv2d(channels, out, kernel_size=3, padding=1), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(32 * (height // 8) * (width // 8), 64), nn.ReLU(), nn.Linear(64, n_classes)
        )
        start_kaiming(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, n_classes] of float32 [N, *input_shape]."""
        logits: torch.Tensor = self.classifier(self.flatten(self.features(images)))
        return logits
