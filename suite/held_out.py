"""How far to learn from a deployment's answers: as far as answers that were held back say that it helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from suite.surrogates import epochs_for
from suite.transfer_set import TransferSet
from suite.view import AdversaryView

Way = tuple[nn.Module, Sequence[float]]
"""Where a surrogate may begin, and the learning rates that are tried from there."""

FOLDS, FEW, NEAR = 3, 1000, 0.02
"""Few answers are held back in turns, a fold at a time; of more, one fold is enough to tell, but for what it says is
within ``NEAR`` of the best: there the others are asked, too. (Of 500, one fold chose worse: AlexNet's ``knockoff`` from
labels fell from a fidelity of 0.54 to 0.50.)"""

IN_TURNS, ONCE = 3000, 6000
"""How many images a trial's lesson shows at most, counted over its epochs: for a fold in turns, and for a single one.

A quarter and half of a whole lesson's, and no trial has more than half the epochs. On AlexNet, at 50, 500 and 4,000
answers, trials so short chose as well as whole lessons do; at 50, a quarter did not show what spoils a fair guess.
"""

PLACING, LEARNING = (1e-3, 1e-2), (5e-4, 5e-3, 1.5e-2)
"""Learning rates to choose from: of hidden layers behind exposed ones, from labels, and then from answers.

A last layer alone wants high ones, many layers low ones.
"""

FAITHFUL = 0.99
"""Share of the answers that a model agrees with which is the victim's own."""

_ORDER = 0xF01D


def taught(view: AdversaryView, known: TransferSet, *ways: Way, epochs: int = 0) -> nn.Module:
    """A surrogate that learned from ``known`` in the best of the ``ways``, or where one begins if none helps.

    Best is what agrees with most of the answers held back; all answers are then learned from. Few answers can spoil a
    model that was a fair guess before.
    """
    tried = [(start, rate) for start, rates in ways for rate in rates]
    said, (start, rate) = max(_agreements(view, known, tried, epochs), key=lambda one: one[0])
    fair, begin = max(((known.agreement(begin), begin) for begin, _ in ways), key=lambda one: one[0])
    if said < fair:
        return begin
    return view.teach(known.lesson(start, rate, seed=view.seed, epochs=epochs))


def from_own_labels(view: AdversaryView, known: TransferSet, start: nn.Module) -> nn.Module:
    """``start`` after it learned what the pre-trained model did, from the attacker's own images and labels.

    At the learning rate of ``PLACING`` that makes it agree with most of the answers.
    """
    own = TransferSet(view.pretrained_on.images, view.pretrained_on.labels, view.n_classes)
    return max((view.teach(own.lesson(start, rate, seed=view.seed)) for rate in PLACING), key=known.agreement)


def _agreements(
    view: AdversaryView, known: TransferSet, tried: Sequence[tuple[nn.Module, float]], epochs: int
) -> list[tuple[float, tuple[nn.Module, float]]]:
    """With answers held back, of those that agreed best after a trial's lesson from the others; beside each, how."""
    order = np.random.default_rng((_ORDER, view.seed)).permutation(len(known))
    folds = np.array_split(order, FOLDS)
    first, others, most = (folds, [], IN_TURNS) if len(known) < FEW else (folds[:1], folds[1:], ONCE)

    def agreed(start: nn.Module, rate: float, fold: NDArray[np.int64]) -> float:
        rest = known.part(np.setdiff1d(order, fold))
        half = max(1, (epochs or epochs_for(len(rest))) // 2)
        shown = min(half, epochs_for(len(rest), most))
        return known.part(fold).agreement(view.teach(rest.lesson(start, rate, seed=view.seed, epochs=shown)))

    said = [np.mean([agreed(*one, fold) for fold in first]) for one in tried]
    near = [i for i, value in enumerate(said) if value >= max(said) - NEAR]
    asked = others if len(near) > 1 else []
    return [(float(np.mean([said[i], *(agreed(*tried[i], fold) for fold in asked)])), tried[i]) for i in near]
