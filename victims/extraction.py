"""Darknet's Extraction network, for its cost."""

from __future__ import annotations

from suite.registry import victim
from victims.darknet import POOL, Darknet, convolution
from victims.layers import InputShape


@victim("extraction", recipe=None)
class Extraction(Darknet):
    """A GoogLeNet without branches (Redmon 2013, Extraction): 23.4 M parameters for 1000 classes.

    It is the classifier behind the first YOLO (Redmon et al. 2016), and one of the large models whose cost Mo et al.
    (DarkneTZ, MobiSys 2020) measure.
    """

    def __init__(self, input_shape: InputShape, n_classes: int) -> None:
        layers = (
            *(POOL, (192, 3), POOL, (128, 1), (256, 3), (256, 1), (512, 3), POOL),
            *(((256, 1), (512, 3)) * 4),
            *((512, 1), (1024, 3), POOL),
            *(((512, 1), (1024, 3)) * 2),
        )
        stem = [convolution(input_shape[0], 64, 7, stride=2)]
        super().__init__("extraction", stem, 64, layers, input_shape, n_classes, end="leaky")
