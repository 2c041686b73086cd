"""How far to learn from a deployment's answers: as far as answers that were held back say that it helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from suite.surrogates import epochs_for
from suite.transfer_set import TransferSet
from suite.view import AdversaryView

Way = tuple[nn.Module, Sequence[float]]
"""Where a surrogate may begin, and the learning rates that are tried from there."""

FOLDS, FEW = 4, 1000
"""Few answers are held back in turns, a fold at a time; of more, one fold is enough to tell. (Of 500, one fold chose
worse: AlexNet's ``knockoff`` from labels fell from a fidelity of 0.54 to 0.50.)"""

IN_TURNS, ONCE = 3000, 6000
"""How many images a trial's lesson shows at most, counted over its epochs: for a fold in turns, and for a single one.

A quarter and half of a whole lesson's. On AlexNet, at 500 and 4,000 answers, trials so short chose what whole lessons
chose. Fifty answers get whole lessons: there a quarter of one did not show that learning spoils a fair guess.
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
    tried = [(_agreement(view, known, start, rate, epochs), start, rate) for start, rates in ways for rate in rates]
    said, start, rate = max(tried, key=lambda one: one[0])
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


def _agreement(view: AdversaryView, known: TransferSet, start: nn.Module, rate: float, epochs: int) -> float:
    """With answers held back, of a model that had a trial's lesson from the others."""
    order = np.random.default_rng((_ORDER, view.seed)).permutation(len(known))
    folds = np.array_split(order, FOLDS)
    held, passes = (folds, IN_TURNS) if len(known) < FEW else (folds[:1], ONCE)
    agreed = []
    for fold in held:
        rest = np.setdiff1d(order, fold)
        shorter = epochs_for(len(rest), passes, least=2)
        lesson = known.part(rest).lesson(start, rate, seed=view.seed, epochs=min(epochs or shorter, shorter))
        agreed.append(known.part(fold).agreement(view.teach(lesson)))
    return float(np.mean(agreed))
