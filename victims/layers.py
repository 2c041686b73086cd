"""What several architectures share: how small images are padded, and how weights start."""

from __future__ import annotations

from torch import nn

InputShape = tuple[int, int, int]


def padding_up_to(size: int, wanted: int) -> int:
    """Zeros needed on either side so that ``size`` pixels become at least ``wanted``; 0 if they are.

    Networks made for 32x32 pool five times and leave nothing of a 28x28 image. Adding these zeros to the
    first convolution's own padding shows it the image inside a 32x32 frame, with no operator more.
    """
    return max(0, -(-(wanted - size) // 2))


def check_shape(architecture: str, input_shape: InputShape, n_classes: int, least: int) -> None:
    """Refuse what ``architecture`` cannot be built for.

    Raises:
        ValueError: fewer than 1 channel or 2 classes, or an image smaller than ``least`` pixels.
    """
    channels, height, width = input_shape
    if channels < 1 or min(height, width) < least:
        raise ValueError(
            f"{architecture} needs images of at least 1x{least}x{least} (channels x height x width),"
            f" not {channels}x{height}x{width}"
        )
    if n_classes < 2:
        raise ValueError(f"{architecture} needs at least 2 classes, not {n_classes}")


def start_kaiming(module: nn.Module) -> None:
    """Draw every weight from N(0, 2 / fan_in) and clear every bias (He et al. 2015, for ReLU networks).

    PyTorch's own start halves the signal with every ReLU; without batch norm, deep stacks then learn
    nothing for several epochs.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
