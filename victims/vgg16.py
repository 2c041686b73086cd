"""VGG-16 with batch norm, for small images."""

from __future__ import annotations

from suite.registry import victim
from victims.layers import InputShape
from victims.recipe import Recipe
from victims.vgg import VGG


@victim("vgg16", recipe=Recipe(learning_rate=0.05, epochs_factor=0.4))
class VGG16(VGG):
    """Configuration D of Simonyan and Zisserman 2015: 14,728,266 parameters for 3x32x32 and 10 classes."""

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        stages = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
        super().__init__("vgg16", stages, input_shape, n_classes)
