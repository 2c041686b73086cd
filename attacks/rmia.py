"""RMIA: how many images of the population the candidate is a likelier member than."""

from typing import Literal

import numpy as np

from suite import Goal, Guess, Observation, ReferenceAttack, View, attack
from suite.likelihood import Compared, rmia
from suite.metrics import auc
from suite.signals import confidence, soft_confidence

_CHOICES = tuple(np.linspace(0.0, 1.0, 11))
_TRIED_ON = 2  # reference models


@attack(
    "rmia",
    goal=Goal.MEMBERSHIP,
    needs={View.OUTPUT, View.AUXILIARY, View.QUERY},
    variants=({}, {"mode": "offline"}),
)
class Rmia(ReferenceAttack):
    """Pairwise likelihood ratios of a candidate and images that are certainly no members.

    Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks", ICML 2024, section 3 and algorithm
    1. The score is the share of the population that the candidate beats by a factor ``gamma``. With ``mode``
    ``offline`` Pr(x) comes from models that do not know x alone, scaled by ``a``; without ``a`` it is the one that does
    best where reference models play the victim, as the paper chooses it.

    Pr(x | model) is the softmax of the paper's experiments, Taylor's with a soft margin, or the ``plain`` probability
    of the true class. Interpretation: Taylor's needs logits, and a deployment gives them away but for a constant, taken
    so that they add up to 0. Scores of several ``views`` are averaged. Candidates that beat equally many are ordered by
    their ratio. Under rounded or cut answers the softmax is the plain one; under label-only answers Pr(x | model) is
    3/4 where the class is right and 1/4 where it is wrong.
    """

    mode: Literal["online", "offline"] = "online"
    gamma: float = 2.0
    a: float | None = None
    softmax: Literal["taylor", "plain"] = "taylor"
    views: int = 1

    def n_views(self) -> int:
        """As many as asked for."""
        return self.views

    def infer(self, observation: Observation) -> Guess:
        """Score the candidates by the share of the population that they beat, averaged over views."""
        compared = Compared.of(observation, soft_confidence if self.softmax == "taylor" else confidence)
        a = None if self.mode == "online" else self._scale(compared)
        return Guess(scores=rmia(compared, self.gamma, a).mean(axis=0))

    def _scale(self, compared: Compared) -> float:
        if self.a is not None:
            return self.a
        found = np.zeros(len(_CHOICES))
        for model in range(min(len(compared.others), _TRIED_ON)):
            stand_in, truth = compared.as_reference(model), compared.is_member[model]
            found += [auc(rmia(stand_in, self.gamma, a).mean(axis=0), truth).value for a in _CHOICES]
        return float(_CHOICES[int(np.argmax(found))])
