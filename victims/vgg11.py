"""VGG-11 with batch norm, for small images."""

from __future__ import annotations

from suite.registry import victim
from victims.layers import InputShape
from victims.recipe import Recipe
from victims.vgg import VGG


@victim("vgg11", recipe=Recipe(learning_rate=0.05, epochs_factor=0.4, channels_last=True))
class VGG11(VGG):
    """Configuration A of Simonyan and Zisserman 2015: 9,231,114 parameters for 3x32x32 and 10 classes."""

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        stages = ((64,), (128,), (256, 256), (512, 512), (512, 512))
        super().__init__("vgg11", stages, input_shape, n_classes)
