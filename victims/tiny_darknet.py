"""Tiny Darknet, for its cost."""

from __future__ import annotations

from suite.registry import victim
from victims.darknet import POOL, Darknet, Layer, convolution
from victims.layers import InputShape


@victim("tiny_darknet", recipe=None)
class TinyDarknet(Darknet):
    """Squeezing 1x1 and widening 3x3 convolutions (Redmon 2016, Tiny Darknet): 1.04 M parameters for 1000 classes.

    One of the large models whose cost Mo et al. (DarkneTZ, MobiSys 2020) measure.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        layers: list[Layer] = [POOL, (32, 3)]
        for squeezed in (16, 32, 64):
            layers += [POOL, *([(squeezed, 1), (8 * squeezed, 3)] * 2)]
        layers.append((128, 1))
        super().__init__("tiny_darknet", [convolution(input_shape[0], 16, 3)], 16, layers, input_shape, n_classes)
