"""The Darknet reference network, for its cost."""

from __future__ import annotations

from suite.registry import victim
from victims.darknet import POOL, Darknet, Layer, convolution
from victims.layers import InputShape


@victim("darknet_reference", recipe=None)
class DarknetReference(Darknet):
    """Seven 3x3 convolutions, twice as wide after every pooling (Redmon 2013): 7.32 M parameters for 1000 classes.

    One of the large models whose cost Mo et al. (DarkneTZ, MobiSys 2020) measure.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        layers: list[Layer] = [layer for out in (32, 64, 128, 256, 512, 1024) for layer in (POOL, (out, 3))]
        super().__init__("darknet_reference", [convolution(input_shape[0], 16, 3)], 16, layers, input_shape, n_classes)
