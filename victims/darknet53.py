"""Darknet-53, for its cost."""

from __future__ import annotations

import torch
from torch import nn

from suite.registry import victim
from victims.darknet import Darknet, convolution
from victims.layers import InputShape


class Residual(nn.Module):
    """A 1x1 convolution to half the channels and a 3x3 one back, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = convolution(channels, channels // 2, 1)
        self.widen = convolution(channels // 2, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to the same."""
        y: torch.Tensor = x + self.widen(self.squeeze(x))
        return y


@victim("darknet53", recipe=None)
class Darknet53(Darknet):
    """52 convolutions with residuals and one to the classes: 41.6 M parameters for 1000 classes.

    Redmon and Farhadi 2018, "YOLOv3: An Incremental Improvement", Table 1; one of the large models whose cost Mo et al.
    (DarkneTZ, MobiSys 2020) measure.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        stages: list[nn.Module] = [convolution(input_shape[0], 32, 3)]
        channels = 32
        for blocks in (1, 2, 8, 8, 4):
            stages.append(convolution(channels, 2 * channels, 3, stride=2))
            channels *= 2
            stages += [Residual(channels) for _ in range(blocks)]
        super().__init__("darknet53", stages, channels, (), input_shape, n_classes, end="pool")
