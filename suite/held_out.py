"""How far to learn from a deployment's answers: as far as answers that were held back say that it helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from suite.transfer_set import TransferSet
from suite.view import AdversaryView

FOLDS, FEW = 4, 1000
"""Few answers are held back in turns, a fold at a time; of more, one fold is enough to tell."""

_ORDER = 0xF01D


def taught(
    view: AdversaryView, known: TransferSet, start: nn.Module, rates: Sequence[float], epochs: int = 0
) -> nn.Module:
    """``start`` after learning from ``known`` at the best of the learning ``rates``, or as it is where none helps.

    Best is what agrees with most of the answers held back; all answers are then learned from. Few answers can spoil a
    model that was a fair guess before.
    """
    said = {rate: _agreement(view, known, start, rate, epochs) for rate in rates}
    best = max(said, key=lambda rate: said[rate])
    if said[best] < known.agreement(start):
        return start
    return view.teach(known.lesson(start, best, seed=view.seed, epochs=epochs))


def _agreement(view: AdversaryView, known: TransferSet, start: nn.Module, rate: float, epochs: int) -> float:
    """With answers held back, of a model that learned from the others."""
    order = np.random.default_rng((_ORDER, view.seed)).permutation(len(known))
    folds = np.array_split(order, FOLDS)
    agreed = []
    for fold in folds if len(known) < FEW else folds[:1]:
        rest = np.setdiff1d(order, fold)
        lesson = known.part(rest).lesson(start, rate, seed=view.seed, epochs=epochs)
        agreed.append(known.part(fold).agreement(view.teach(lesson)))
    return float(np.mean(agreed))
