"""Transfer sets: images of the attacker's own with a deployment's answers, from which a surrogate learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from suite.policy import Outputs, classes
from suite.surrogates import Lesson, epochs_for, targets_of
from victims.inference import logits

if TYPE_CHECKING:
    from suite.view import AdversaryView

_ORDER = 0x7A5
FINE_TUNING, FROM_SCRATCH = (1e-4, 5e-4), 1e-3
"""Learning rates of a surrogate that begins as a trained model, to choose from, and of one that does not."""


@dataclass(frozen=True, slots=True)
class TransferSet:
    """``images`` float32 [N, *input_shape] and ``answers`` [N, n_classes] or [N], as the policy lets them out."""

    images: NDArray[np.float32]
    answers: Outputs
    n_classes: int

    def __len__(self) -> int:
        return len(self.images)

    def part(self, chosen: NDArray[np.int64]) -> TransferSet:
        """Those at these positions."""
        return TransferSet(self.images[chosen], self.answers[chosen], self.n_classes)

    def lesson(self, module: torch.nn.Module, rate: float, *, seed: int, epochs: int = 0) -> Lesson:
        """What ``module`` is to learn from it; ``epochs`` 0: as many as its size asks for."""
        targets = targets_of(self.answers, self.n_classes)
        return Lesson(module, self.images, targets, epochs or epochs_for(len(self)), rate, seed=seed)

    def agreement(self, module: torch.nn.Module) -> float:
        """Share of the images that ``module`` puts into the class that was answered; 0 where there are none."""
        if not len(self):
            return 0.0
        return float((logits(module, self.images).argmax(axis=1) == classes(self.answers)).mean())


def order_of(view: AdversaryView) -> NDArray[np.int64]:
    """The attacker's images in the random order in which all attacks of one seed spend their queries."""
    return np.random.default_rng((_ORDER, view.seed)).permutation(len(view.auxiliary)).astype(np.int64)


def at_random(view: AdversaryView, budget: int) -> TransferSet:
    """Ask for as many of the attacker's images as the budget allows; a larger budget's set holds a smaller one's."""
    images = view.auxiliary.images[order_of(view)[:budget]]
    return TransferSet(images, view.query(images), view.n_classes)
