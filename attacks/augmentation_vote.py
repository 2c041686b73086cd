"""Augmentation vote: what a model was trained on it also gets right when it is mirrored or moved."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from suite import Goal, Guess, Observation, ReferenceAttack, View, attack
from suite.likelihood import Compared
from suite.signals import hit


@attack("augmentation_vote", goal=Goal.MEMBERSHIP, needs={View.OUTPUT, View.AUXILIARY, View.QUERY})
class AugmentationVote(ReferenceAttack):
    """Which of several views of a candidate are given the right class; nothing but labels is looked at.

    Choquette-Choo, Tramèr, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021, section 3.3
    (data augmentation attack): a model trained on the correctness of shadow models' answers for translated and rotated
    images, one bit a view, tells members from non-members.

    Interpretation: ``views`` are those of ``suite.augment``, the image, its mirror image, and both moved by a pixel,
    nine moves in all; the attack model is a logistic regression on the bits, since more would fit views that differ
    in nothing but chance. Four views by default, since each is one more query a candidate, deployment and reference
    model. The reference models train it as shadow models: whose candidate it is does not matter.
    """

    views: int = 4

    def n_views(self) -> int:
        """As many as asked for."""
        return self.views

    def infer(self, observation: Observation) -> Guess:
        """Fit on the reference models' answers, score the candidates by the log-odds of membership."""
        hits = Compared.of(observation, hit)
        known = np.concatenate([bits.T for bits in hits.others])
        learner = LogisticRegression(max_iter=200)
        with threadpool_limits(limits=1):
            learner.fit(_with_total(known), hits.is_member.ravel())
            scores = learner.decision_function(_with_total(hits.own.T))
        return Guess(scores=scores.astype(np.float64), threshold=0.0)


def _with_total(bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits [N, V] and whether the image itself and every view are right."""
    return np.column_stack([bits, bits.all(axis=1)])
