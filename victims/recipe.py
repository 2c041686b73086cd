"""How an architecture is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Schedule = Literal["one_cycle", "cosine", "constant"]

_WARM_UP_FRAC = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 25e4


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training settings of one architecture: SGD on the cross entropy, without data augmentation.

    The victims of the membership papers are trained without augmentation, until they fit their members.
    ``learning_rate`` is the highest the schedule reaches. ``epochs_factor`` scales the profile's number of
    epochs: the part of 25 epochs in which this architecture fits 98 % of 2,000 CIFAR-10 images. More epochs
    made AlexNet's and VGG-7's test accuracy no better. ``channels_last`` asks for
    that memory format on the CPU, where it was measured to be faster; it changes results only in the last
    bits. On a GPU it is always used.

    Raises:
        ValueError: a setting is out of range; says which.
    """

    learning_rate: float
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    schedule: Schedule = "one_cycle"
    epochs_factor: float = 1.0
    channels_last: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"recipe: learning_rate must be above 0, not {self.learning_rate}")
        if self.batch_size < 2:
            raise ValueError(f"recipe: batch_size must be at least 2 (batch norm needs 2), not {self.batch_size}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"recipe: momentum must be in [0, 1), not {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("recipe: nesterov needs a momentum above 0")
        if self.weight_decay < 0:
            raise ValueError(f"recipe: weight_decay must not be negative, got {self.weight_decay}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"recipe: unknown schedule {self.schedule!r}: use {', '.join(get_args(Schedule))}")
        if self.epochs_factor <= 0:
            raise ValueError(f"recipe: epochs_factor must be above 0, not {self.epochs_factor}")

    def epochs(self, profile_epochs: int) -> int:
        """The number of epochs for a profile with ``profile_epochs``; at least 1."""
        return max(1, round(profile_epochs * self.epochs_factor))

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of ``step`` (from 0) out of ``steps``; a pure function, with no state to resume.

        ``one_cycle`` rises along a cosine from 1/25 of the peak over the first 30 % of the steps and then
        falls to 1/250,000 (Smith and Topin 2017, "Super-Convergence", in the two-phase form); ``cosine``
        falls from the peak to 0 (Loshchilov and Hutter 2017).
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "cosine":
            return _cosine(self.learning_rate, 0.0, step / steps)
        peak = max(1.0, _WARM_UP_FRAC * steps - 1)
        if step <= peak:
            return _cosine(self.learning_rate / _START_DIVISOR, self.learning_rate, step / peak)
        last = max(peak + 1, steps - 1)
        return _cosine(self.learning_rate, self.learning_rate / _END_DIVISOR, (step - peak) / (last - peak))


def _cosine(start: float, end: float, frac: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * frac)) / 2
